#include "engine/core/random.h"

#include <cmath>
#include <numbers>

namespace plume {

uint32_t RandomSequence::bits() {
  if (used_ == 4) {
    block_ = philox(seed_, counter_++, stream_);
    used_ = 0;
  }
  return block_.v[used_++];
}

float RandomSequence::normal() {
  if (has_spare_) {
    has_spare_ = false;
    return spare_;
  }
  const float u = 1.0f - uniform(), v = uniform();  // u in (0, 1]
  const float radius = std::sqrt(-2.0f * std::log(u)), angle = 2.0f * std::numbers::pi_v<float> * v;
  spare_ = radius * std::sin(angle);
  has_spare_ = true;
  return radius * std::cos(angle);
}

uint64_t RandomSequence::below(uint64_t bound) {
  // Rejection: draws at or above the largest multiple of bound are thrown away.
  const uint64_t limit = UINT64_MAX - UINT64_MAX % bound;
  for (;;) {
    const uint64_t hi = bits(), draw = hi << 32 | bits();
    if (draw < limit) return draw % bound;
  }
}

}  // namespace plume
