// adaptive_avg_pool2d: a thread makes 16 bytes of neighbouring channels of one output pixel (forward) or one
// input pixel (backward); a block is up to 32 such packs times 8 or more pixels.
//
// Bytes: forward reads x once, but for the rows and columns that neighbouring windows share, which come from
// the caches, and writes y; backward the reverse. One addition per value: the bound is memory bandwidth.
// Backward gathers from the windows that cover a pixel, so there are no atomics.
#include "engine/ops/adaptive_avg_pool2d.h"

#include "engine/math/adaptive_windows.h"
#include "kernels/common/row_tiling.h"

namespace plume::PLUME_KERNELS {
namespace {

template <class T, int kWidth>
__global__ void __launch_bounds__(kTilingThreads, 1)
    adaptive_avg_pool2d_forward_pixels(View4<const T> x, int64_t rows_per_slice, View4<T> y) {
  const RowWalk<kWidth> walk(int64_t(y.n) * y.h * y.w, rows_per_slice);
  if (walk.channel >= y.c) return;
  const AdaptiveWindows rows{x.h, y.h}, columns{x.w, y.w};
  for (int64_t row = walk.first; row < walk.last; row += walk.step) {
    const Pixel out(row, y.h, y.w);
    float sum[kWidth] = {};
    for (int h = rows.begin(out.h); h < rows.end(out.h); ++h) {
      for (int w = columns.begin(out.w); w < columns.end(out.w); ++w) {
        const auto v = Pack<T, kWidth>::load(&x.at(out.n, h, w, walk.channel));
#pragma unroll
        for (int i = 0; i < kWidth; ++i) sum[i] += float(v[i]);
      }
    }
    const float area = float(rows.size(out.h) * columns.size(out.w));
    Pack<T, kWidth> mean;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) mean[i] = T(sum[i] / area);
    mean.store(y.data + row * y.c + walk.channel);
  }
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kTilingThreads, 1)
    adaptive_avg_pool2d_backward_gather(View4<const T> dy, int64_t rows_per_slice, View4<T> dx) {
  const RowWalk<kWidth> walk(int64_t(dx.n) * dx.h * dx.w, rows_per_slice);
  if (walk.channel >= dx.c) return;
  const AdaptiveWindows rows{dx.h, dy.h}, columns{dx.w, dy.w};
  for (int64_t row = walk.first; row < walk.last; row += walk.step) {
    const Pixel in(row, dx.h, dx.w);
    float sum[kWidth] = {};
    for (int p = rows.first(in.h); p < rows.last(in.h); ++p) {
      for (int q = columns.first(in.w); q < columns.last(in.w); ++q) {
        const auto g = Pack<T, kWidth>::load(&dy.at(in.n, p, q, walk.channel));
        const float share = 1 / float(rows.size(p) * columns.size(q));
#pragma unroll
        for (int i = 0; i < kWidth; ++i) sum[i] += float(g[i]) * share;
      }
    }
    Pack<T, kWidth> out;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) out[i] = T(sum[i]);
    out.store(dx.data + row * dx.c + walk.channel);
  }
}

void run_adaptive_pool_forward(Context& context, const Tensor& x, Tensor& y) {
  if (y.size() == 0) return;
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    with_pack_width<T>(x.dim(3), [&](auto width) {
      const RowTiling tiling(y.size() / y.dim(3), y.dim(3) / width);
      simt::launch<adaptive_avg_pool2d_forward_pixels<T, width>>(tiling.launch(context), view4<T>(x),
                                                                 tiling.rows_per_slice, view4<T>(y));
    });
  });
}

void run_adaptive_pool_backward(Context& context, const Tensor& dy, Tensor& dx) {
  if (dx.size() == 0) return;
  dispatch_floating(dy.dtype(), [&](auto zero) {
    using T = decltype(zero);
    with_pack_width<T>(dx.dim(3), [&](auto width) {
      const RowTiling tiling(dx.size() / dx.dim(3), dx.dim(3) / width);
      simt::launch<adaptive_avg_pool2d_backward_gather<T, width>>(tiling.launch(context), view4<T>(dy),
                                                                  tiling.rows_per_slice, view4<T>(dx));
    });
  });
}

const bool adaptive_avg_pool2d_registered =
    adaptive_avg_pool2d_forward.add(kThisDevice, {{"pixels", always, run_adaptive_pool_forward}}) &&
    adaptive_avg_pool2d_backward.add(kThisDevice, {{"gather", always, run_adaptive_pool_backward}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
