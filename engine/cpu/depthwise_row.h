// One row of a depthwise convolution's output, for a width of vectors that the including file chooses.
//
// Neighbouring outputs of a row share most of their inputs: under one row of a 3x3 filter four of them read
// six pixels instead of twelve, each once, and the three filter vectors serve all four. The sums stay in
// registers. Per four outputs: 27 loads (3x3; 65 for 5x5) for 36 (100) fused multiply-adds of a vector of
// channels; per seven, which divide the widths of a 224-pixel image's feature maps, 36 (80) for 63 (175).
// Loads and arithmetic, two of each a cycle, balance; the bound is the second where the image row stays in
// the first cache.
//
// Pixels in the padding are read from a row of zeros. The last channels of a pixel that do not fill a vector
// are computed together with the ones before them, a second time.
//
// Included by files that are compiled for different processors: nothing here may have a name that they share,
// so everything is a template over `Lanes`, a type of the including file.
#pragma once
#include <cstdint>

#include "engine/cpu/channel_epilogue.h"

namespace plume::cpu {

struct DepthwiseRow {
  const float* x;  // [rows, width, channels]: the input rows under the window that lie in the image
  int64_t width, channels;
  int first_tap, last_tap;  // the filter's rows that lie on them: first_tap..last_tap-1
  int padding;
  const float* w;      // [filter, filter, pitch]
  const float* zeros;  // as many as channels
  ChannelEpilogue epilogue;
  float* out;  // [out_width, pitch]
  int64_t out_width;
  int64_t pitch;  // of the filter and the output: they may have more channels than are computed here
};
using DepthwiseRowKernel = void(const DepthwiseRow&);

inline constexpr int kFewColumns = 4, kManyColumns = 7;  // outputs at a time

#if defined(__x86_64__)
// Sixteen channels at a time, for processors with AVX-512 and images with as many channels.
DepthwiseRowKernel* depthwise_row_avx512(int filter, int stride, int columns);
#endif

// sums[column] for the channels from c on. kInside: no pixel of the window lies in the padding; otherwise
// `pixels` has their places in the first row, or zeros.
template <class Lanes, int kFilter, int kStride, int kColumns, bool kInside>
inline void depthwise_sums(const DepthwiseRow& j, int64_t c, const float* const* pixels,
                           typename Lanes::Vector (&sums)[kColumns]) {
  using Vector = typename Lanes::Vector;
  constexpr int kPixels = (kColumns - 1) * kStride + kFilter;
#pragma GCC unroll 7
  for (int column = 0; column < kColumns; ++column) sums[column] = Vector{};
  for (int r = j.first_tap; r < j.last_tap; ++r) {
    const int64_t line = (r - j.first_tap) * j.width * j.channels + c;
    Vector tap[kFilter];
#pragma GCC unroll 5
    for (int s = 0; s < kFilter; ++s) tap[s] = Lanes::load(j.w + (r * kFilter + s) * j.pitch + c);
#pragma GCC unroll 17
    for (int t = 0; t < kPixels; ++t) {
      const float* pixel;
      if (kInside)
        pixel = pixels[0] + t * j.channels + line;
      else
        pixel = pixels[t] == j.zeros ? j.zeros : pixels[t] + line;
      const Vector value = Lanes::load(pixel);
#pragma GCC unroll 7
      for (int column = 0; column < kColumns; ++column) {
        const int s = t - column * kStride;
        if (s >= 0 && s < kFilter) sums[column] += value * tap[s];
      }
    }
  }
}

template <class Lanes, int kFilter, int kStride, int kColumns, Activation kActivation>
void depthwise_row(const DepthwiseRow& j) {
  using Vector = typename Lanes::Vector;
  constexpr int kPixels = (kColumns - 1) * kStride + kFilter;
  for (int64_t q = 0; q < j.out_width; q += kColumns) {
    const float* pixels[kPixels];
    bool inside = true;
    for (int t = 0; t < kPixels; ++t) {
      const int64_t w = q * kStride - j.padding + t;
      const bool exists = w >= 0 && w < j.width;
      pixels[t] = exists ? j.x + w * j.channels : j.zeros;
      inside = inside && exists;
    }
    const int columns = int(j.out_width - q < kColumns ? j.out_width - q : kColumns);
    for (int64_t first = 0; first < j.channels; first += Lanes::kCount) {
      const int64_t c = first + Lanes::kCount <= j.channels ? first : j.channels - Lanes::kCount;
      Vector sums[kColumns];
      if (inside)
        depthwise_sums<Lanes, kFilter, kStride, kColumns, true>(j, c, pixels, sums);
      else
        depthwise_sums<Lanes, kFilter, kStride, kColumns, false>(j, c, pixels, sums);
#pragma GCC unroll 7
      for (int column = 0; column < kColumns; ++column) {
        if (column == columns) break;
        const int64_t at = (q + column) * j.pitch + c;
        finish_channels<Lanes, kActivation>(sums[column], j.epilogue, c, at, j.out);
      }
      if (j.epilogue.adds_last)
        for (int column = 0; column < columns; ++column)
          add_last<Lanes>(j.epilogue, (q + column) * j.pitch + c, j.out);
    }
  }
}

template <class Lanes, int kFilter, int kStride, int kColumns>
void depthwise_row_with_activation(const DepthwiseRow& j) {
  dispatch_activation(j.epilogue.activation,
                      [&](auto kind) { depthwise_row<Lanes, kFilter, kStride, kColumns, kind>(j); });
}

// filter 3 or 5, stride 1 or 2, columns kFewColumns or kManyColumns.
template <class Lanes>
DepthwiseRowKernel* depthwise_row_kernel(int filter, int stride, int columns) {
  constexpr int kFew = kFewColumns, kMany = kManyColumns;
  static constexpr DepthwiseRowKernel* kKernels[2][2][2] = {
      {{depthwise_row_with_activation<Lanes, 3, 1, kFew>, depthwise_row_with_activation<Lanes, 3, 1, kMany>},
       {depthwise_row_with_activation<Lanes, 3, 2, kFew>, depthwise_row_with_activation<Lanes, 3, 2, kMany>}},
      {{depthwise_row_with_activation<Lanes, 5, 1, kFew>, depthwise_row_with_activation<Lanes, 5, 1, kMany>},
       {depthwise_row_with_activation<Lanes, 5, 2, kFew>,
        depthwise_row_with_activation<Lanes, 5, 2, kMany>}}};
  return kKernels[filter == 5][stride == 2][columns == kMany];
}

}  // namespace plume::cpu
