// max_pool2d: a thread makes 16 bytes of neighbouring channels of one output pixel (forward) or of one or
// four input pixels (backward); a block is up to 32 such packs times 8 or more of these.
//
// Bytes: forward reads each input value as often as windows overlap, all but the first time from the caches,
// and writes y and, for training, its argmax of a byte; backward reads dy and argmax and writes dx. One
// comparison per window element: the bound is memory bandwidth. Backward gathers: a thread asks the windows
// that cover its pixels which of them they won, so there are no atomics.
//
// 16-bit values are compared two at once, an instruction and a half for each (common/pair_leaders.h); where a
// maximum turns out to be NaN, its window is met once more value by value, for the first one's place. f32
// values, and what no pack fits, are met so at once.
#include "engine/ops/max_pool2d.h"

#include "kernels/common/pair_leaders.h"
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

// Of each channel of a pack the largest value met so far, and which one it was; the first of equal ones, or
// the first NaN.
template <class T, int kWidth>
class Leaders {
 public:
  using Vector = Pack<T, kWidth>;
  using Word = typename Vector::Word;

  __device__ void start(const Word& word, int place) {
    Vector::widen(word, values_);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) places_[i] = place;
  }
  __device__ void meet(const Word& word, int place) {
    float values[kWidth];
    Vector::widen(word, values);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float value = values[i], leader = values_[i];
      if (value > leader || (value != value && leader == leader)) values_[i] = value, places_[i] = place;
    }
  }
  __device__ Vector values() const { return Vector::narrow(values_); }
  __device__ Pack<uint8_t, kWidth> places() const {
    Pack<uint8_t, kWidth> places;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) places[i] = uint8_t(places_[i]);
    return places;
  }

 private:
  float values_[kWidth];
  int places_[kWidth];
};

// Has the leaders meet all values of an output's window that are in the image, of one pack of channels: there
// is one, since the padding is at most half of the window.
template <class T, int kWidth, class Leading>
__device__ __forceinline__ void meet_window(const View4<const T>& x, const MaxPool2dParams& params,
                                            const Pixel& out, int channel, Leading& leaders) {
  using Vector = Pack<T, kWidth>;
  const int top = out.h * params.stride - params.padding, left = out.w * params.stride - params.padding;
  const int h0 = max(top, 0), h1 = min(top + params.window, x.h);
  const int w0 = max(left, 0), w1 = min(left + params.window, x.w);
  const T* line = &x.at(out.n, h0, w0, channel);
  const int64_t pitch = int64_t(x.w) * x.c;
  constexpr int kCommon = 3;
  if (params.window == kCommon && h1 - h0 == kCommon && w1 - w0 == kCommon) {
    typename Vector::Word words[kCommon * kCommon];
#pragma unroll
    for (int i = 0; i < kCommon * kCommon; ++i)
      words[i] = Vector::load(line + i / kCommon * pitch + int64_t(i % kCommon) * x.c).word();
    leaders.start(words[0], 0);
#pragma unroll
    for (int i = 1; i < kCommon * kCommon; ++i) leaders.meet(words[i], i);
    return;
  }
  int place = (h0 - top) * params.window + w0 - left;
  leaders.start(Vector::load(line).word(), place);
  for (int h = h0; h < h1; ++h) {
    const T* at = line;
    for (int w = w0; w < w1; ++w) {
      leaders.meet(Vector::load(at).word(), place++);
      at += x.c;
    }
    place += params.window - (w1 - w0);
    line += pitch;
  }
}

template <class T, int kWidth, bool kPlaces>
__global__ void __launch_bounds__(kTilingThreads, 1)
    max_pool2d_forward_pixels(View4<const T> x, MaxPool2dParams params, int64_t rows_per_slice, View4<T> y,
                              uint8_t* __restrict__ argmax) {
  const RowWalk<kWidth> walk(int64_t(y.n) * y.h * y.w, rows_per_slice);
  if (walk.channel >= y.c) return;
  Pixel out(walk.first, y.h, y.w);
  for (int64_t row = walk.first; row < walk.last; row += walk.step) {
    const int64_t at = row * y.c + walk.channel;
    const auto store = [&](const auto& leaders) {
      leaders.values().store(y.data + at);
      if constexpr (kPlaces) leaders.places().store(argmax + at);
    };
    const auto exactly = [&] {
      Leaders<T, kWidth> leaders;
      meet_window<T, kWidth>(x, params, out, walk.channel, leaders);
      store(leaders);
    };
    if constexpr (Pack<T, kWidth>::kPaired) {
      PairLeaders<T, kWidth, kPlaces> leaders;
      meet_window<T, kWidth>(x, params, out, walk.channel, leaders);
      if (kPlaces && leaders.any_nan())
        exactly();
      else
        store(leaders);
    } else {
      exactly();
    }
    out.go_on(walk.step, y.h, y.w);
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
  Pixel block(walk.first, blocks.rows, blocks.columns);
  for (int64_t row = walk.first; row < walk.last; row += walk.step) {
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
      Pack<T, kWidth>::narrow(sums[pixel]).store(&dx.at(block.n, h, w, walk.channel));
    }
    block.go_on(walk.step, blocks.rows, blocks.columns);
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
      const auto launch = [&](auto places) {
        simt::launch<max_pool2d_forward_pixels<T, kWidth, places()>>(
            tiling.launch(context), view4<T>(x), params, tiling.rows_per_slice, view4<T>(y),
            places() ? argmax.data<uint8_t>() : nullptr);
      };
      if (argmax.defined())
        launch(std::true_type{});
      else
        launch(std::false_type{});
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
