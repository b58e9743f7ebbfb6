// Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
// SC 2011). A pure function of (seed, counter), so the same on every device and for any number of threads.
#pragma once
#include <array>
#include <cstdint>

#include "engine/core/half.h"

namespace plume {

struct PhiloxBlock {
  uint32_t v[4];
};

PLUME_HD inline PhiloxBlock philox(uint64_t seed, uint64_t counter, uint64_t stream = 0) {
  uint32_t c[4] = {uint32_t(counter), uint32_t(counter >> 32), uint32_t(stream), uint32_t(stream >> 32)};
  uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t(0xD2511F53u) * c[0], p1 = uint64_t(0xCD9E8D57u) * c[2];
    const uint32_t next0 = uint32_t(p1 >> 32) ^ c[1] ^ k0, next2 = uint32_t(p0 >> 32) ^ c[3] ^ k1;
    c[1] = uint32_t(p1);
    c[3] = uint32_t(p0);
    c[0] = next0;
    c[2] = next2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c[0], c[1], c[2], c[3]}};
}

// Uniform in [0, 1): the upper 24 bits, so exactly representable.
PLUME_HD inline float uniform01(uint32_t bits) { return float(bits >> 8) * (1.0f / 16777216.0f); }

// A sequence for host code: initialisation, shuffling, augmentation parameters.
class RandomSequence {
 public:
  explicit RandomSequence(uint64_t seed, uint64_t stream = 0, uint64_t counter = 0)
      : seed_(seed), stream_(stream), counter_(counter) {}
  uint32_t bits();
  float uniform() { return uniform01(bits()); }
  float uniform(float low, float high) { return low + (high - low) * uniform(); }
  float normal();                  // standard normal, Box-Muller
  uint64_t below(uint64_t bound);  // uniform in [0, bound), without bias

 private:
  uint64_t seed_, stream_, counter_;
  PhiloxBlock block_{};
  int used_ = 4;
  float spare_ = 0;
  bool has_spare_ = false;
};

}  // namespace plume
