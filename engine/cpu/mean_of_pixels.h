// The mean over an image's pixels, channel by channel: global_avg_pool's and that of operations which contain
// it, to the bit, since which of them runs may depend on the number of threads.
#pragma once
#include <algorithm>
#include <vector>

#include "engine/cpu/parallel.h"

namespace plume::cpu {

// `sums`: room for a number per channel; `pitch` values lie from one pixel to the next. Eight pixels are
// added in float: additions in double are half as wide, and read and write their sums for every pixel.
template <class T, class Out>
void mean_of_pixels(const T* image, int64_t pixels, int64_t channels, int64_t pitch,
                    std::vector<double>& sums, Out* mean) {
  sums.assign(size_t(channels), 0.0);
  double* sum = sums.data();
  int64_t i = 0;
  for (; i + 8 <= pixels; i += 8) {
    const T* const first = image + i * pitch;
    PLUME_SIMD
    for (int64_t c = 0; c < channels; ++c) {
      const auto value = [&](int64_t k) { return float(first[k * pitch + c]); };
      sum[c] += double(((value(0) + value(1)) + (value(2) + value(3))) +
                       ((value(4) + value(5)) + (value(6) + value(7))));
    }
  }
  for (; i < pixels; ++i) {
    const T* pixel = image + i * pitch;
    PLUME_SIMD
    for (int64_t c = 0; c < channels; ++c) sum[c] += double(float(pixel[c]));
  }
  for (int64_t c = 0; c < channels; ++c) mean[c] = Out(float(sum[c] / double(pixels)));
}

}  // namespace plume::cpu
