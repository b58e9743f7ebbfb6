#include "tools/training/rate.h"

#include <algorithm>

namespace plume::tools {
namespace {

Schedule schedule_of(const Recipe& r, int64_t steps_per_epoch) {
  const float base = float(r.lr), factor = float(r.gamma);
  const int64_t total = r.epochs * steps_per_epoch;
  if (r.schedule == "step") return StepSchedule{base, r.step_epochs * steps_per_epoch, factor};
  if (r.schedule == "multistep") {
    std::vector<int64_t> steps;
    for (const int64_t epoch : parse_milestones(r.milestones)) steps.push_back(epoch * steps_per_epoch);
    return MultiStepSchedule{base, std::move(steps), factor};
  }
  if (r.schedule == "cosine") return CosineSchedule{base, r.warmup_epochs * steps_per_epoch, total};
  if (r.schedule == "one_cycle") return OneCycleSchedule{base, total};
  return ConstantSchedule{base};
}

}  // namespace

LearningRate::LearningRate(const Recipe& r, int64_t steps_per_epoch)
    : follows_(r.schedule == "plateau"),
      // The one-cycle schedule rises by itself, the cosine has its warm-up built in.
      warmup_steps_(r.schedule == "cosine" || r.schedule == "one_cycle" ? 0
                                                                        : r.warmup_epochs * steps_per_epoch),
      schedule_(schedule_of(r, steps_per_epoch)),
      plateau_({.base = float(r.lr), .factor = r.gamma, .patience = r.step_epochs}) {}

void LearningRate::store(RunState& state) const {
  state.plateau_rate = plateau_.state().rate;
  state.plateau_best =
      std::max(plateau_.state().best, -1.0);  // which every accuracy is above, as minus infinity
  state.plateau_bad = plateau_.state().bad;
}

void LearningRate::restore(const RunState& state) {
  plateau_.restore({.rate = state.plateau_rate, .best = state.plateau_best, .bad = state.plateau_bad});
}

float LearningRate::at(int64_t step) const {
  const float rate = follows_ ? plateau_.rate() : rate_at(schedule_, step);
  return step < warmup_steps_ ? rate * float(step + 1) / float(warmup_steps_) : rate;
}

}  // namespace plume::tools
