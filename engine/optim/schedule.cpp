#include "engine/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace plume {

float CosineSchedule::at(int64_t step) const {
  if (step < warmup_steps) return base * float(step + 1) / float(warmup_steps);
  const double span = double(std::max<int64_t>(total_steps - warmup_steps, 1));
  const double progress = std::clamp(double(step - warmup_steps) / span, 0.0, 1.0);
  const double cosine = 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
  return float(double(base) * (double(final_fraction) + (1.0 - double(final_fraction)) * cosine));
}

}  // namespace plume
