// Learning-rate schedules: pure functions of the step, so that a resumed run needs no state.
#pragma once
#include <cstdint>

namespace plume {

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

}  // namespace plume
