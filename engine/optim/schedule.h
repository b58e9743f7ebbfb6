// Learning-rate schedules: pure functions of the step, so that a resumed run needs no state; and one that
// follows a metric, whose state is a few numbers.
#pragma once
#include <cstdint>
#include <limits>
#include <variant>
#include <vector>

namespace plume {

struct ConstantSchedule {
  float base = 0.1f;

  float at(int64_t /*step*/) const { return base; }
};

// base * factor^k, k the number of milestones at or before the step: torch.optim.lr_scheduler.MultiStepLR.
struct MultiStepSchedule {
  float base = 0.1f;
  std::vector<int64_t> milestones = {};  // steps
  float factor = 0.1f;

  float at(int64_t step) const;
};

// base * factor^floor(step / period): StepLR.
struct StepSchedule {
  float base = 0.1f;
  int64_t period = 1;  // steps
  float factor = 0.1f;

  float at(int64_t step) const;
};

// Linear warm-up from base/warmup_steps to base, then half a cosine down to `final_fraction` * base at
// total_steps.
struct CosineSchedule {
  float base = 0.1f;
  int64_t warmup_steps = 0;
  int64_t total_steps = 1;
  float final_fraction = 0.0f;

  // The rate of step 0, 1, ..., total_steps - 1.
  float at(int64_t step) const;
};

// The same by whole epochs, as torchvision's references: SequentialLR of LinearLR from warmup_factor and
// CosineAnnealingLR over the remaining epochs.
struct EpochCosineSchedule {
  float base = 0.1f;
  int64_t warmup_epochs = 0, epochs = 1, steps_per_epoch = 1;
  float warmup_factor = 0.01f, final_fraction = 0.0f;

  float at(int64_t step) const;
};

// From peak / start_divisor up to peak and down to peak / start_divisor / final_divisor, two half cosines:
// OneCycleLR (Smith and Topin, arXiv:1708.07120).
struct OneCycleSchedule {
  float peak = 0.1f;
  int64_t total_steps = 1;
  double rising = 0.3;  // of all steps
  double start_divisor = 25, final_divisor = 1e4;

  float at(int64_t step) const;
};

using Schedule = std::variant<ConstantSchedule, StepSchedule, MultiStepSchedule, CosineSchedule,
                              EpochCosineSchedule, OneCycleSchedule>;
inline float rate_at(const Schedule& schedule, int64_t step) {
  return std::visit([step](const auto& s) { return s.at(step); }, schedule);
}

// The rate is multiplied by `factor` when the metric has not improved for more than `patience` evaluations:
// ReduceLROnPlateau with a relative threshold.
class ReduceOnPlateau {
 public:
  struct Options {
    float base = 0.1f;
    bool maximise = true;  // accuracy; false: loss
    double factor = 0.1, threshold = 1e-4, least_rate = 0;
    int64_t patience = 10, cooldown = 0;
  };
  // What a checkpoint must keep.
  struct State {
    double rate = 0, best = 0;
    int64_t bad = 0, cooling = 0;
  };
  explicit ReduceOnPlateau(const Options& options);

  void update(double metric);  // after each evaluation
  float rate() const { return float(state_.rate); }
  const State& state() const { return state_; }
  void restore(const State& state) { state_ = state; }

 private:
  Options options_;
  State state_;
};

}  // namespace plume
