#include "engine/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "engine/core/error.h"

namespace plume {
namespace {

// Half a cosine from `start` (progress 0) to `end` (progress 1).
double half_cosine(double start, double end, double progress) {
  return end + (start - end) * 0.5 * (1.0 + std::cos(std::numbers::pi * std::clamp(progress, 0.0, 1.0)));
}

}  // namespace

float MultiStepSchedule::at(int64_t step) const {
  const auto passed =
      std::count_if(milestones.begin(), milestones.end(), [=](int64_t m) { return m <= step; });
  return float(double(base) * std::pow(double(factor), double(passed)));
}

float StepSchedule::at(int64_t step) const {
  return float(double(base) * std::pow(double(factor), double(step / std::max<int64_t>(period, 1))));
}

float CosineSchedule::at(int64_t step) const {
  if (step < warmup_steps) return base * float(step + 1) / float(warmup_steps);
  const double span = double(std::max<int64_t>(total_steps - warmup_steps, 1));
  return float(
      half_cosine(double(base), double(final_fraction) * double(base), double(step - warmup_steps) / span));
}

float EpochCosineSchedule::at(int64_t step) const {
  const int64_t epoch = step / std::max<int64_t>(steps_per_epoch, 1);
  if (epoch < warmup_epochs) {
    const double start = double(warmup_factor);
    return float(double(base) * (start + (1 - start) * double(epoch) / double(warmup_epochs)));
  }
  const double span = double(std::max<int64_t>(epochs - warmup_epochs, 1));
  return float(
      half_cosine(double(base), double(final_fraction) * double(base), double(epoch - warmup_epochs) / span));
}

float OneCycleSchedule::at(int64_t step) const {
  const double top = double(peak), start = top / start_divisor, end = start / final_divisor;
  const double turn = rising * double(total_steps) - 1;  // the step at the peak, not always whole
  if (double(step) <= turn) return float(half_cosine(start, top, double(step) / turn));
  return float(half_cosine(top, end, (double(step) - turn) / std::max(double(total_steps) - 1 - turn, 1e-9)));
}

ReduceOnPlateau::ReduceOnPlateau(const Options& options) : options_(options) {
  PLUME_CHECK(options.factor > 0 && options.factor < 1, "plateau: factor {} is not between 0 and 1",
              options.factor);
  PLUME_CHECK(options.patience >= 0 && options.cooldown >= 0,
              "plateau: patience {}, cooldown {}: expected 0 or more", options.patience, options.cooldown);
  state_.rate = double(options.base);
  state_.best = options.maximise ? -INFINITY : INFINITY;
}

void ReduceOnPlateau::update(double metric) {
  constexpr double kLeastChange = 1e-8;  // of the rate
  // A NaN improves nothing.
  const bool better = options_.maximise ? metric > state_.best * (1 + options_.threshold)
                                        : metric < state_.best * (1 - options_.threshold);
  if (better) state_.best = metric;
  state_.bad = better ? 0 : state_.bad + 1;
  if (state_.cooling > 0) {
    --state_.cooling;
    state_.bad = 0;
  }
  if (state_.bad <= options_.patience) return;
  const double reduced = std::max(state_.rate * options_.factor, options_.least_rate);
  if (state_.rate - reduced > kLeastChange) state_.rate = reduced;
  state_.cooling = options_.cooldown;
  state_.bad = 0;
}

}  // namespace plume
