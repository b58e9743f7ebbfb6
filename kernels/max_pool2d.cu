// max_pool2d: a thread makes 16 bytes of neighbouring channels of one output pixel (forward) or one input
// pixel (backward); a block is up to 32 such packs times 8 or more pixels.
//
// Bytes: forward reads each input value as often as windows overlap, all but the first time from the caches,
// and writes y and, for training, its argmax; backward reads dy and argmax and writes dx. One comparison per
// window element: the bound is memory bandwidth. Backward gathers: a thread asks the windows that cover its
// pixel which of them it won, so there are no atomics.
#include "engine/ops/max_pool2d.h"

#include "kernels/common/row_tiling.h"

namespace plume::PLUME_KERNELS {
namespace {

// Windows first..last cover the input coordinate i; `count` windows exist.
struct Covering {
  int first, last;

  __device__ Covering(int i, int count, const MaxPool2dParams& p)
      : first(max(0, (i + p.padding - p.window + p.stride) / p.stride)),
        last(min(count - 1, (i + p.padding) / p.stride)) {}
};

template <class T, int kWidth>
__global__ void __launch_bounds__(kTilingThreads, 1)
    max_pool2d_forward_pixels(View4<const T> x, MaxPool2dParams params, int64_t rows_per_slice, View4<T> y,
                              int* __restrict__ argmax) {
  const int64_t pixels = int64_t(y.n) * y.h * y.w;
  const RowWalk<kWidth> walk(pixels, rows_per_slice);
  if (walk.channel >= y.c) return;
  for (int64_t row = walk.first; row < walk.last; row += walk.step) {
    const Pixel out(row, y.h, y.w);
    const int top = out.h * params.stride - params.padding, left = out.w * params.stride - params.padding;
    const int h0 = max(top, 0), h1 = min(top + params.window, x.h);
    const int w0 = max(left, 0), w1 = min(left + params.window, x.w);
    // Every window holds an input value, since the padding is at most half of it.
    Pack<T, kWidth> best = Pack<T, kWidth>::load(&x.at(out.n, h0, w0, walk.channel));
    int place[kWidth];
#pragma unroll
    for (int i = 0; i < kWidth; ++i) place[i] = h0 * x.w + w0;
    for (int h = h0; h < h1; ++h) {
      for (int w = w0; w < w1; ++w) {
        const auto v = Pack<T, kWidth>::load(&x.at(out.n, h, w, walk.channel));
#pragma unroll
        for (int i = 0; i < kWidth; ++i) {
          const float value = float(v[i]), leader = float(best[i]);
          // Larger, or the first NaN.
          if (value > leader || (value != value && leader == leader)) {
            best[i] = v[i];
            place[i] = h * x.w + w;
          }
        }
      }
    }
    const int64_t at = row * y.c + walk.channel;
    best.store(y.data + at);
    if (argmax != nullptr) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) argmax[at + i] = place[i];
    }
  }
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kTilingThreads, 1)
    max_pool2d_backward_gather(View4<const T> dy, const int* __restrict__ argmax, MaxPool2dParams params,
                               int64_t rows_per_slice, View4<T> dx) {
  const int64_t pixels = int64_t(dx.n) * dx.h * dx.w;
  const RowWalk<kWidth> walk(pixels, rows_per_slice);
  if (walk.channel >= dx.c) return;
  for (int64_t row = walk.first; row < walk.last; row += walk.step) {
    const Pixel in(row, dx.h, dx.w);
    const int here = in.h * dx.w + in.w;
    const Covering ps(in.h, dy.h, params), qs(in.w, dy.w, params);
    float sum[kWidth] = {};
    for (int p = ps.first; p <= ps.last; ++p) {
      for (int q = qs.first; q <= qs.last; ++q) {
        const int64_t window = dy.offset(in.n, p, q, walk.channel);
        const auto g = Pack<T, kWidth>::load(dy.data + window);
#pragma unroll
        for (int i = 0; i < kWidth; ++i)
          if (argmax[window + i] == here) sum[i] += float(g[i]);
      }
    }
    Pack<T, kWidth> out;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) out[i] = T(sum[i]);
    out.store(dx.data + row * dx.c + walk.channel);
  }
}

void run_max_pool2d_forward(Context& context, const Tensor& x, const MaxPool2dParams& params, Tensor& y,
                            Tensor& argmax) {
  if (y.size() == 0) return;
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    with_pack_width<T>(x.dim(3), [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      const RowTiling tiling(y.size() / y.dim(3), y.dim(3) / kWidth);
      simt::launch<max_pool2d_forward_pixels<T, kWidth>>(tiling.launch(context), view4<T>(x), params,
                                                         tiling.rows_per_slice, view4<T>(y),
                                                         argmax.defined() ? argmax.data<int32_t>() : nullptr);
    });
  });
}

void run_max_pool2d_backward(Context& context, const Tensor& dy, const Tensor& argmax,
                             const MaxPool2dParams& params, Tensor& dx) {
  if (dx.size() == 0) return;
  dispatch_floating(dy.dtype(), [&](auto zero) {
    using T = decltype(zero);
    with_pack_width<T>(dx.dim(3), [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      const RowTiling tiling(dx.size() / dx.dim(3), dx.dim(3) / kWidth);
      simt::launch<max_pool2d_backward_gather<T, kWidth>>(tiling.launch(context), view4<T>(dy),
                                                          argmax.data<int32_t>(), params,
                                                          tiling.rows_per_slice, view4<T>(dx));
    });
  });
}

const bool max_pool2d_registered =
    max_pool2d_forward.add(kThisDevice, {{"pixels", always, run_max_pool2d_forward}}) &&
    max_pool2d_backward.add(kThisDevice, {{"gather", always, run_max_pool2d_backward}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
