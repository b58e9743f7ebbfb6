// Gradients of a depthwise convolution, row by row, for a width of vectors that the including file chooses.
//
// Included by files that are compiled for different processors, as depthwise_row.h is.
#pragma once
#include <cstdint>

#include "engine/cpu/with_constant.h"

namespace plume::cpu {

// One row of the input's gradient at stride 2. Of the filter's rows those that reach it lie on up to three
// rows of dy, each two further down in the filter.
struct DepthwiseInputGradientRow {
  const float* dy[3];  // [out_width, channels]
  const float* w[3];   // [filter, channels]
  int rows;            // at least 1
  int64_t out_width, channels;
  int padding;
  float* dx;  // [width, channels]
  int64_t width;
};

// The sums of x * dy over some rows of an image's outputs, for all taps.
struct DepthwiseFilterGradientRows {
  const float* x;   // [.., width, channels], beginning with row `x_first` of `height` ones
  const float* dy;  // of the image
  int64_t height, width, channels, out_width;
  int64_t first, last;  // output rows
  int64_t x_first;
  int padding;
  const float* zeros;  // [width, channels], for rows outside the image
  float* sums;         // [filter, filter, vectors, lanes], added to; the last vector ends with the channels
};

struct DepthwiseGradientKernels {
  int lanes;  // the channels are at least as many
  void (*input_stride2)(int filter, const DepthwiseInputGradientRow&);
  void (*filter)(int filter, int stride, const DepthwiseFilterGradientRows&);
};

#if defined(__x86_64__)
extern const DepthwiseGradientKernels depthwise_gradient_kernels_avx512;
#endif

// dx[2 m - padding] takes the even taps of dy[m], dy[m - 1], ..., its neighbour the odd ones. A pixel of dy
// is loaded once, and the taps stay in registers (with AVX2 most of a 5x5 filter's do not). By value: see
// batch_norm_rows.h.
template <class Lanes, int kFilter, int kRows>
void input_gradient_row_stride2(DepthwiseInputGradientRow j) {
  using Vector = typename Lanes::Vector;
  constexpr int kPixels = (kFilter + 1) / 2;
  for (int64_t first = 0; first < j.channels; first += Lanes::kCount) {
    const int64_t c = first + Lanes::kCount <= j.channels ? first : j.channels - Lanes::kCount;
    Vector tap[kRows][kFilter], pixel[kRows][kPixels] = {};  // pixel[r][i] = dy[m - i]
#pragma GCC unroll 3
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 5
      for (int s = 0; s < kFilter; ++s) tap[r][s] = Lanes::load(j.w[r] + s * j.channels + c);
    for (int64_t m = 0, w = -j.padding; w < j.width; ++m, w += 2) {
      Vector even{}, odd{};
#pragma GCC unroll 3
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 3
        for (int i = kPixels - 1; i > 0; --i) pixel[r][i] = pixel[r][i - 1];
        pixel[r][0] = m < j.out_width ? Lanes::load(j.dy[r] + m * j.channels + c) : Vector{};
#pragma GCC unroll 3
        for (int i = 0; i < kPixels; ++i) {
          even += pixel[r][i] * tap[r][2 * i];
          if (2 * i + 1 < kFilter) odd += pixel[r][i] * tap[r][2 * i + 1];
        }
      }
      if (w >= 0) Lanes::store(j.dx + w * j.channels + c, even);
      if (w + 1 >= 0 && w + 1 < j.width) Lanes::store(j.dx + (w + 1) * j.channels + c, odd);
    }
  }
}

// The taps of `kRows` filter rows, from `r0` on, sum over the output rows in registers.
template <class Lanes, int kFilter, int kStride, int kRows>
void filter_gradient_channels(DepthwiseFilterGradientRows j, int r0, int64_t c, float* sums,
                              int64_t tap_pitch) {
  using Vector = typename Lanes::Vector;
  // Columns whose taps are all inside the image, and those before and after.
  const int64_t before = (j.padding + kStride - 1) / kStride, all = j.width + j.padding - kFilter;
  const int64_t inner_begin = before < j.out_width ? before : j.out_width;
  const int64_t inside_end = all < 0 ? 0 : all / kStride + 1;
  const int64_t inner_end = inside_end < inner_begin   ? inner_begin
                            : inside_end < j.out_width ? inside_end
                                                       : j.out_width;
  Vector sum[kRows][kFilter] = {};
  for (int64_t p = j.first; p < j.last; ++p) {
    const float* line[kRows];
#pragma GCC unroll 5
    for (int r = 0; r < kRows; ++r) {
      const int64_t h = p * kStride - j.padding + r0 + r;
      line[r] = (h >= 0 && h < j.height ? j.x + (h - j.x_first) * j.width * j.channels : j.zeros) + c;
    }
    const float* gradients = j.dy + p * j.out_width * j.channels + c;
    const auto column = [&](int64_t q, bool check) __attribute__((always_inline)) {
      const Vector gradient = Lanes::load(gradients + q * j.channels);
      const int64_t left = q * kStride - j.padding;
#pragma GCC unroll 5
      for (int s = 0; s < kFilter; ++s) {
        if (check && (left + s < 0 || left + s >= j.width)) continue;
#pragma GCC unroll 5
        for (int r = 0; r < kRows; ++r)
          sum[r][s] += gradient * Lanes::load(line[r] + (left + s) * j.channels);
      }
    };
    for (int64_t q = 0; q < inner_begin; ++q) column(q, true);
    for (int64_t q = inner_begin; q < inner_end; ++q) column(q, false);
    for (int64_t q = inner_end; q < j.out_width; ++q) column(q, true);
  }
#pragma GCC unroll 5
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 5
    for (int s = 0; s < kFilter; ++s) {
      float* const to = sums + ((r0 + r) * kFilter + s) * tap_pitch;
      Lanes::store(to, Lanes::load(to) + sum[r][s]);
    }
}

template <class Lanes, int kFilter, int kStride>
void filter_gradient(const DepthwiseFilterGradientRows& j) {
  // Sums and a gradient in the registers that there are.
  constexpr int kRows = Lanes::kCount >= 16 || kFilter == 3 ? kFilter : 2;
  const int64_t padded = (j.channels + Lanes::kCount - 1) / Lanes::kCount * Lanes::kCount;
  for (int64_t first = 0; first < j.channels; first += Lanes::kCount) {
    const int64_t c = first + Lanes::kCount <= j.channels ? first : j.channels - Lanes::kCount;
    for (int r = 0; r + kRows <= kFilter; r += kRows)
      filter_gradient_channels<Lanes, kFilter, kStride, kRows>(j, r, c, j.sums + first, padded);
    if constexpr (kFilter % kRows != 0)
      filter_gradient_channels<Lanes, kFilter, kStride, kFilter % kRows>(j, kFilter / kRows * kRows, c,
                                                                         j.sums + first, padded);
  }
}

// filter 3 or 5, stride 1 or 2.
template <class Lanes>
constexpr DepthwiseGradientKernels depthwise_gradient_kernels() {
  return {int(Lanes::kCount),
          [](int filter, const DepthwiseInputGradientRow& j) {
            if (filter == 3)
              with_constant<2>(j.rows, [&](auto rows) { input_gradient_row_stride2<Lanes, 3, rows>(j); });
            else
              with_constant<3>(j.rows, [&](auto rows) { input_gradient_row_stride2<Lanes, 5, rows>(j); });
          },
          [](int filter, int stride, const DepthwiseFilterGradientRows& j) {
            if (filter == 3)
              stride == 1 ? filter_gradient<Lanes, 3, 1>(j) : filter_gradient<Lanes, 3, 2>(j);
            else
              stride == 1 ? filter_gradient<Lanes, 5, 1>(j) : filter_gradient<Lanes, 5, 2>(j);
          }};
}

}  // namespace plume::cpu
