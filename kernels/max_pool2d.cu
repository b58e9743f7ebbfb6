// max_pool2d: a thread makes 16 bytes of neighbouring channels of one output pixel (forward) or of one or
// four input pixels (backward); a block is up to 32 such packs times 8 or more of these.
//
// Bytes: forward reads each input value as often as windows overlap, all but the first time from the caches,
// and writes y and, for training, its argmax of a byte; backward reads dy and argmax and writes dx. One
// comparison per window element: the bound is memory bandwidth. Backward gathers: a thread asks the windows
// that cover its pixels which of them they won, so there are no atomics.
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

// An image's pixels in squares, of which the first begin `before` its edge.
struct PixelBlocks {
  int rows, columns, before;

  PixelBlocks(const Tensor& x, int size, int before_)
      : rows(int(ceil_div(x.dim(1) + before_, size))),
        columns(int(ceil_div(x.dim(2) + before_, size))),
        before(before_) {}
  PLUME_HD int64_t count(int64_t images) const { return images * rows * columns; }
};

template <class T, int kWidth>
__global__ void __launch_bounds__(kTilingThreads, 1)
    max_pool2d_forward_pixels(View4<const T> x, MaxPool2dParams params, int64_t rows_per_slice, View4<T> y,
                              uint8_t* __restrict__ argmax) {
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
    for (int i = 0; i < kWidth; ++i) place[i] = (h0 - top) * params.window + w0 - left;
    for (int h = h0; h < h1; ++h) {
      for (int w = w0; w < w1; ++w) {
        const auto v = Pack<T, kWidth>::load(&x.at(out.n, h, w, walk.channel));
#pragma unroll
        for (int i = 0; i < kWidth; ++i) {
          const float value = float(v[i]), leader = float(best[i]);
          // Larger, or the first NaN.
          if (value > leader || (value != value && leader == leader)) {
            best[i] = v[i];
            place[i] = (h - top) * params.window + w - left;
          }
        }
      }
    }
    const int64_t at = row * y.c + walk.channel;
    best.store(y.data + at);
    if (argmax != nullptr) {
      Pack<uint8_t, kWidth> places;
#pragma unroll
      for (int i = 0; i < kWidth; ++i) places[i] = uint8_t(place[i]);
      places.store(argmax + at);
    }
  }
}

// A thread makes kBlock x kBlock pixels. With as many as the stride, the windows that cover them are loaded
// once for all of these: four of a 3x3 window where pixels alone would load nine.
template <class T, int kWidth, int kBlock>
__global__ void __launch_bounds__(kTilingThreads, 1)
    max_pool2d_backward_gather(View4<const T> dy, const uint8_t* __restrict__ argmax, MaxPool2dParams params,
                               PixelBlocks blocks, int64_t rows_per_slice, View4<T> dx) {
  const RowWalk<kWidth> walk(blocks.count(dx.n), rows_per_slice);
  if (walk.channel >= dx.c) return;
  for (int64_t row = walk.first; row < walk.last; row += walk.step) {
    const Pixel block(row, blocks.rows, blocks.columns);
    const int h0 = block.h * kBlock - blocks.before, w0 = block.w * kBlock - blocks.before;
    const Covering top(h0, dy.h, params), bottom(h0 + kBlock - 1, dy.h, params);
    const Covering left(w0, dy.w, params), right(w0 + kBlock - 1, dy.w, params);
    float sums[kBlock * kBlock][kWidth] = {};
    for (int p = top.first; p <= bottom.last; ++p) {
      for (int q = left.first; q <= right.last; ++q) {
        const int64_t window = dy.offset(block.n, p, q, walk.channel);
        const auto g = Pack<T, kWidth>::load(dy.data + window);
        const auto places = Pack<uint8_t, kWidth>::load(argmax + window);
        const int r0 = h0 - p * params.stride + params.padding, s0 = w0 - q * params.stride + params.padding;
#pragma unroll
        for (int pixel = 0; pixel < kBlock * kBlock; ++pixel) {
          const int r = r0 + pixel / kBlock, s = s0 + pixel % kBlock;
          const bool inside = unsigned(r) < unsigned(params.window) && unsigned(s) < unsigned(params.window);
          const int here = inside ? r * params.window + s : -1;
#pragma unroll
          for (int i = 0; i < kWidth; ++i)
            if (int(places[i]) == here) sums[pixel][i] += float(g[i]);
        }
      }
    }
#pragma unroll
    for (int pixel = 0; pixel < kBlock * kBlock; ++pixel) {
      const int h = h0 + pixel / kBlock, w = w0 + pixel % kBlock;
      if (!dx.inside(h, w)) continue;
      Pack<T, kWidth> out;
#pragma unroll
      for (int i = 0; i < kWidth; ++i) out[i] = T(sums[pixel][i]);
      out.store(&dx.at(block.n, h, w, walk.channel));
    }
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
                                                         argmax.defined() ? argmax.data<uint8_t>() : nullptr);
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
      const auto launch = [&](auto block) {
        const PixelBlocks blocks(dx, block, params.padding % block);
        const RowTiling tiling(blocks.count(dx.dim(0)), dx.dim(3) / kWidth);
        simt::launch<max_pool2d_backward_gather<T, kWidth, block>>(tiling.launch(context), view4<T>(dy),
                                                                   argmax.data<uint8_t>(), params, blocks,
                                                                   tiling.rows_per_slice, view4<T>(dx));
      };
      if (params.stride == 2)
        launch(std::integral_constant<int, 2>{});
      else
        launch(std::integral_constant<int, 1>{});
    });
  });
}

const bool max_pool2d_registered =
    max_pool2d_forward.add(kThisDevice, {{"pixels", always, run_max_pool2d_forward}}) &&
    max_pool2d_backward.add(kThisDevice, {{"gather", always, run_max_pool2d_backward}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
