// Pillow's antialiased resampling (Resample.c, "convolution-based resampling" in its documentation), whose
// rounding is part of what networks were trained on: coefficients in double, divided by their sum and rounded
// to 22 binary places; rows first, then columns, with bytes in between. From the coefficients on it is whole
// numbers alone, so that every device gives the same bytes.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/core/half.h"

namespace plume {

enum class ResampleFilter : uint8_t { triangle, cubic };

inline constexpr int kResampleBits = 32 - 8 - 2;  // of coefficients: 8 for the byte, 2 for negative lobes
inline constexpr int32_t kResampleHalf = 1 << (kResampleBits - 1);

PLUME_HD inline uint8_t resampled_byte(int32_t sum) {
  const int32_t value = sum >> kResampleBits;
  return uint8_t(value < 0 ? 0 : value > 255 ? 255 : value);
}

// One axis of a resize, as it lies in memory: three numbers per output pixel, then all weights. Output pixel
// i is the sum of weight(i)[k] times input pixel first(i) + k, k < count(i).
struct ResampleTaps {
  const int32_t* table;
  PLUME_HD int first(int i) const { return table[3 * i]; }
  PLUME_HD int count(int i) const { return table[3 * i + 1]; }
  PLUME_HD const int32_t* weights(int i) const { return table + table[3 * i + 2]; }
};

// A line of `in` pixels becomes one of `out`, of which pixels [from, to) are wanted.
struct ResampleAxis {
  int64_t in, out, from, to;
  bool operator==(const ResampleAxis&) const = default;
};

// Appends the taps of an axis to `table`; they begin where it ended.
void append_taps(std::vector<int32_t>& table, const ResampleAxis& axis, ResampleFilter filter);

// pixels: lines of 3-byte pixels, `stride` bytes apart; out: [rows, columns, 3], lines `out_stride` bytes
// apart. `scratch` is resized as needed.
struct ResampleImage {
  const uint8_t* pixels;
  int64_t stride;
  ResampleTaps columns, rows;
  int column_count, row_count;
};
void resample(const ResampleImage& image, uint8_t* out, int64_t out_stride, std::vector<uint8_t>& scratch);

}  // namespace plume
