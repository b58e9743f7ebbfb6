// What the depthwise kernels share: the sizes of a depthwise convolution, and the strip of outputs a thread
// keeps in registers.
#pragma once
#include "engine/ops/depthwise_conv2d.h"
#include "kernels/common/kernel.h"
#include "kernels/common/vector.h"

namespace plume::PLUME_KERNELS {

struct DepthwiseSizes {
  int height, width, channels;  // x [N, H, W, C]
  int filter_height, filter_width;
  int out_height, out_width;  // y [N, P, Q, C]
  int stride, padding, dilation;

  DepthwiseSizes(const Tensor& x, const Tensor& w, const Tensor& y, const Conv2dParams& p)
      : height(int(x.dim(1))),
        width(int(x.dim(2))),
        channels(int(x.dim(3))),
        filter_height(int(w.dim(0))),
        filter_width(int(w.dim(1))),
        out_height(int(y.dim(1))),
        out_width(int(y.dim(2))),
        stride(p.stride),
        padding(p.padding),
        dilation(p.dilation) {}

  PLUME_HD bool inside(int h, int w) const {
    return unsigned(h) < unsigned(height) && unsigned(w) < unsigned(width);
  }
};

// The parts of a linear index over [image, row, column, pack], outermost first.
struct DepthwiseIndex {
  int image, row, column, pack;

  PLUME_HD DepthwiseIndex(int64_t i, int rows, int columns, int packs) {
    const int64_t pixel = i / packs, line = pixel / columns;
    pack = int(i - pixel * packs);
    column = int(pixel - line * columns);
    image = int(line / rows);
    row = int(line - int64_t(image) * rows);
  }
};

// Outputs of one row that a thread computes together.
inline constexpr int kStrip = 4;

// Adds one filter row's products to the strip's sums: tap(s) are its taps, pixel(t) the inputs under the
// strip, each fetched once. pixel(t) may be undefined outside the image if inside(t) is false.
template <class T, int kWidth, int kFilter, int kStride, class Tap, class Inside, class Pixel>
__device__ __forceinline__ void add_filter_row(float (&sums)[kStrip][kWidth], Tap tap, Inside inside,
                                               Pixel pixel) {
  Pack<T, kWidth> taps[kFilter];
#pragma unroll
  for (int s = 0; s < kFilter; ++s) taps[s] = tap(s);
#pragma unroll
  for (int t = 0; t < (kStrip - 1) * kStride + kFilter; ++t) {
    if (!inside(t)) continue;
    const Pack<T, kWidth> values = pixel(t);
#pragma unroll
    for (int j = 0; j < kStrip; ++j) {
      const int s = t - j * kStride;
      if (s < 0 || s >= kFilter) continue;
#pragma unroll
      for (int i = 0; i < kWidth; ++i) sums[j][i] += float(values[i]) * float(taps[s][i]);
    }
  }
}

// Calls f with filter size and stride as constants: 3 and 5, 1 and 2.
template <class F>
void dispatch_depthwise_filter(int64_t size, int stride, F&& f) {
  const auto with_stride = [&](auto filter) {
    if (stride == 1)
      f(filter, std::integral_constant<int, 1>{});
    else
      f(filter, std::integral_constant<int, 2>{});
  };
  if (size == 3)
    with_stride(std::integral_constant<int, 3>{});
  else
    with_stride(std::integral_constant<int, 5>{});
}

inline bool is_common_depthwise(int64_t r, int64_t s, const Conv2dParams& p) {
  return r == s && (r == 3 || r == 5) && (p.stride == 1 || p.stride == 2) && p.dilation == 1;
}

}  // namespace plume::PLUME_KERNELS
