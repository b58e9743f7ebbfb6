// depthwise_conv2d forward and its input gradient for 3x3 and 5x5 filters, strides 1 and 2, "stream":
// marching down the image (depthwise_stream.h); "wide_stream" at stride 1 in 16 bits, with strips of seven
// columns instead of four.
//
// A row of the input takes part in up to R rows of outputs. A thread keeps the sums of those that are not
// complete, a strip wide, and all R S taps in registers: each input is loaded and widened once per strip of
// columns, each tap once per thread. Row i adds its products to the outputs o with i = o stride + r. When a
// row of outputs is complete it is stored, and the sums of the others move one place on: their first product
// of the next row is added into other registers, which costs nothing. Rows above and below the image are
// marched past.
//
// Bytes: x and y once; of the x under a strip the two (3x3) or four (5x5) columns at its edge are read by the
// neighbour, too, from the L1. Per output of a 3x3 filter at stride 1: 9 multiply-adds, and in strips of
// seven 0.64 loads of 4 bytes and 1.3 conversions, where `rows` has 0.84 loads of 16 bytes and 6.75
// conversions. All instructions of an output (sm_90, bf16, strips of seven): 3x3 19, with silu 26; 5x5 37,
// with hardswish 41. `rows` has 39 and 100.
//
// In flight per thread: the words of the next row, 24 to 44 bytes, at 3x3 and stride 2 of the next two, 72.
// Two rows ahead at stride 1 would have to be moved up, which waits for them, or the code doubled.
//
// depthwise_pool, "stream": the same, and a thread adds what it stores. Its mean is one of the parts that
// squeeze_gate adds, 8 bytes for a strip of a plane. Per value an addition, and its widening, of 19 to 26.
//
// Stride 1's input gradient is the same with the filter turned by 180 degrees. Stride 2's is its counterpart:
// a row of dy takes part in R rows of dx, two of which are complete after it.
#include "engine/ops/depthwise_pool.h"
#include "kernels/depthwise_stream_forward.h"

namespace plume::PLUME_KERNELS {
namespace {

template <class T, int kFilter, int kStride, int kWidth, bool kPools>
__global__ void __launch_bounds__(kStreamThreads, stream_blocks<T>(kFilter, kStride, kWidth))
    depthwise_forward_stream(const T* __restrict__ x, const T* __restrict__ w, DepthwiseSizes s,
                             StreamStrips strips, EpilogueView<T> finish, T* __restrict__ y, bool turned,
                             StreamedMeans means) {
  march_forward<T, kFilter, kStride, kWidth, kPools>(x, AsStored{}, w, s, strips, finish, y, turned, means);
}

// Stride 2 and padding R / 2: with h = 2 p + r - R / 2, row i of dy under a strip takes part in the rows
// 2 i + r - kBack of dx. The same holds across.
template <class T, int kFilter>
__global__ void __launch_bounds__(kStreamThreads, stream_blocks<T>(kFilter, 1))
    depthwise_backward_input_stream(const T* __restrict__ dy, const T* __restrict__ w, DepthwiseSizes s,
                                    StreamStrips strips, T* __restrict__ dx) {
  constexpr int kBefore = kFilter / 4;              // rows and columns of dy before the strip's own
  constexpr int kBack = kFilter / 2 + 2 * kBefore;  // 3x3: 1, 5x5: 4
  constexpr int kColumns = (kStrip - 1 + kBack) / 2 + 1;
  constexpr int kPairs = kFilter / 2 + 1;  // of rows of dx in progress
  using Rows = StreamedRows<T, kColumns>;
  const int64_t item = int64_t(blockIdx.x) * kStreamThreads + threadIdx.x;
  if (item >= strips.items) return;
  const DepthwiseIndex at = strips.index(item);
  const int channel = at.pack * kStreamWidth, v = at.column * kStrip, h = at.row * strips.rows_per_strip;
  const int rows = min(strips.rows_per_strip, s.height - h), inputs = (rows - 1 + kBack) / 2 + 1;
  const int top = h / 2 - kBefore;
  Rows input(dy, at.image, s.out_height, s.out_width, s.channels, top, v / 2 - kBefore, channel);
  typename Rows::Word ahead[kColumns] = {};
  input.fetch(true, ahead);
  float taps[kFilter * kFilter][kStreamWidth];
  load_taps(w, s.channels, channel, false, taps);

  // Of the rows 2 (i + j) - kBack and the one below, for row i of dy.
  float sums[kPairs][2][kStrip][kStreamWidth] = {};
  T* const out = dx + ((int64_t(at.image) * s.height + h) * s.width + v) * s.channels + channel;
#pragma unroll 1
  for (int i = 0; i < inputs; ++i) {
    float values[kColumns][kStreamWidth];
    Rows::widen(ahead, values);
    input.fetch(i + 1 < inputs, ahead);
    if (unsigned(top + i) < unsigned(s.out_height)) {
#pragma unroll
      for (int r = 0; r < kFilter; ++r) {
#pragma unroll
        for (int column = 0; column < kStrip; ++column)
#pragma unroll
          for (int t = 0; t < kColumns; ++t) {
            const int tap = column + kBack - 2 * t;
            if (tap < 0 || tap >= kFilter) continue;
#pragma unroll
            for (int c = 0; c < kStreamWidth; ++c)
              sums[r / 2][r % 2][column][c] += values[t][c] * taps[r * kFilter + tap][c];
          }
      }
    }
#pragma unroll
    for (int below = 0; below < 2; ++below) {
      const int row = 2 * i - kBack + below;
      if (unsigned(row) >= unsigned(rows)) continue;
#pragma unroll
      for (int column = 0; column < kStrip; ++column) {
        if (v + column >= s.width) continue;
        Pack<T, kStreamWidth>::narrow(sums[0][below][column])
            .store(out + (int64_t(row) * s.width + column) * s.channels);
      }
    }
    move_up(sums);
    clear(sums[kPairs - 1]);
  }
}

// A forward call, or an input gradient as one (`turned`).
struct StreamCall {
  const Tensor &x, &w;
  const Conv2dParams& params;
  const Epilogue& epilogue;
  bool turned;
  StreamStrips strips;
  StreamedMeans means = {};
};

template <class T, int kFilter, int kStride, int kWidth, bool kPools>
void launch_strips(const Context& context, const StreamCall& c, Tensor& y) {
  if constexpr (kWidth == kStrip || (sizeof(T) == 2 && kStride == 1)) {
    simt::launch<depthwise_forward_stream<T, kFilter, kStride, kWidth, kPools>>(
        c.strips.launch(context), c.x.data<T>(), c.w.data<T>(), DepthwiseSizes(c.x, c.w, y, c.params),
        c.strips, EpilogueView<T>(c.epilogue), y.data<T>(), c.turned, c.means);
  }
}

template <int kWidth, bool kPools>
void launch_forward(const Context& context, const StreamCall& call, Tensor& y) {
  if (y.size() == 0) return;
  dispatch_floating(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    dispatch_depthwise_filter(call.w.dim(0), call.params.stride, [&](auto filter, auto stride) {
      launch_strips<T, filter, stride, kWidth, kPools>(context, call, y);
    });
  });
}

template <int kWidth>
void run_stream(Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& params,
                const Epilogue& epilogue, Tensor& y) {
  const StreamStrips strips = forward_strips<kWidth>(y.shape(), w.shape(), params);
  launch_forward<kWidth, false>(context, {x, w, params, epilogue, false, strips}, y);
}

// Of a plane: every block of squeeze_gate reads the parts of up to 16 images, 64 KB at most.
template <int kWidth>
StreamStrips pool_strips(const Tensor& y, const Tensor& w, const Conv2dParams& params) {
  constexpr int64_t kMostValues = 16384, kImages = 16;
  const int64_t of_a_row = std::min(y.dim(0), kImages) * y.dim(3) * ceil_div(y.dim(2), kWidth);
  return forward_strips<kWidth>(y.shape(), w.shape(), params,
                                std::max<int64_t>(1, kMostValues / std::max<int64_t>(1, of_a_row)));
}

template <int kWidth>
void run_pool(Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& params,
              const Epilogue& epilogue, Tensor& y, Tensor& pooled) {
  const StreamStrips strips = pool_strips<kWidth>(y, w, params);
  if (const int parts = strips.down * strips.across; parts > 1) pooled = plane_means(y, parts);
  const StreamedMeans means{pooled.data<float>(), 1.0f / float(y.dim(1) * y.dim(2))};
  launch_forward<kWidth, true>(context, {x, w, params, epilogue, false, strips, means}, y);
}

// Of stride 1: that of a convolution with these.
Conv2dParams turned_around(const Tensor& w, const Conv2dParams& params) {
  return {1, int(w.dim(0)) - 1 - params.padding, 1};
}
template <int kWidth>
void run_input_as_forward(Context& context, const Tensor& dy, const Tensor& w, const Conv2dParams& params,
                          Tensor& dx) {
  const Conv2dParams turned = turned_around(w, params);
  launch_forward<kWidth, false>(
      context, {dy, w, turned, {}, true, forward_strips<kWidth>(dx.shape(), w.shape(), turned)}, dx);
}

void run_input_stream(Context& context, const Tensor& dy, const Tensor& w, const Conv2dParams& params,
                      Tensor& dx) {
  if (params.stride == 1) return run_input_as_forward<kStrip>(context, dy, w, params, dx);
  if (dx.size() == 0) return;
  dispatch_floating(dx.dtype(), [&](auto zero) {
    using T = decltype(zero);
    dispatch_depthwise_filter(w.dim(0), 2, [&](auto filter, auto) {
      const StreamStrips strips(dx.dim(0), dx.dim(1), dx.dim(2), dx.dim(3), kStrip, filter + 1, 2);
      simt::launch<depthwise_backward_input_stream<T, filter>>(strips.launch(context), dy.data<T>(),
                                                               w.data<T>(), DepthwiseSizes(dx, w, dy, params),
                                                               strips, dx.data<T>());
    });
  });
}

bool fits_forward_stream(const Context&, const Tensor&, const Tensor& w, const Conv2dParams& p,
                         const Epilogue&, Tensor&) {
  return fits_stream(w.shape(), p);
}
bool fits_input_stream(const Context&, const Tensor&, const Tensor& w, const Conv2dParams& p, Tensor&) {
  return fits_stream(w.shape(), p) && (p.stride == 1 ? p.padding < w.dim(0) : p.padding == w.dim(0) / 2);
}
// A strip of seven columns wants twice the registers, and as many threads less.
bool fits_forward_wide(const Context&, const Tensor& x, const Tensor& w, const Conv2dParams& p,
                       const Epilogue&, Tensor&) {
  return fits_stream(w.shape(), p) && p.stride == 1 && x.dtype() != DType::f32;
}
bool fits_input_wide(const Context&, const Tensor& dy, const Tensor& w, const Conv2dParams& p, Tensor&) {
  return fits_stream(w.shape(), p) && p.stride == 1 && p.padding < w.dim(0) && dy.dtype() != DType::f32;
}
bool wide_pays(const Tensor& w, const Conv2dParams& p, const Tensor& y) {
  return wide_strips_pay(y.shape(), w.shape(), p);
}
bool fits_pool_stream(const Context&, const Tensor&, const Tensor& w, const Conv2dParams& p, const Epilogue&,
                      Tensor& y, Tensor&) {
  return fits_stream(w.shape(), p) && y.size() > 0;
}
bool fits_pool_wide(const Context&, const Tensor& x, const Tensor& w, const Conv2dParams& p, const Epilogue&,
                    Tensor& y, Tensor&) {
  return fits_stream(w.shape(), p) && p.stride == 1 && x.dtype() != DType::f32 && y.size() > 0;
}
bool pool_wide_pays(const Context&, const Tensor&, const Tensor& w, const Conv2dParams& p, const Epilogue&,
                    Tensor& y, Tensor&) {
  return pool_strips<kWideStrip>(y, w, p).cost < pool_strips<kStrip>(y, w, p).cost;
}
bool forward_wide_pays(const Context&, const Tensor&, const Tensor& w, const Conv2dParams& p, const Epilogue&,
                       Tensor& y) {
  return wide_pays(w, p, y);
}
bool input_wide_pays(const Context&, const Tensor&, const Tensor& w, const Conv2dParams& p, Tensor& dx) {
  return wide_pays(w, turned_around(w, p), dx);
}

// The 25 products of a 5x5 filter are worth more than what marching saves: `rows` takes 8 channels of 16 bits
// at once, with fewer instructions for each (predicted at 14x14x240, batch 256: 33 microseconds, not 41).
bool stream_pays(const Tensor& x, const Tensor& w, const Conv2dParams& p) {
  return x.dtype() == DType::f32 || w.dim(0) != 5 || p.stride != 1 || x.dim(3) % kVectorWidth<f16> != 0;
}
bool forward_stream_pays(const Context&, const Tensor& x, const Tensor& w, const Conv2dParams& p,
                         const Epilogue&, Tensor&) {
  return stream_pays(x, w, p);
}
bool input_stream_pays(const Context&, const Tensor& dy, const Tensor& w, const Conv2dParams& p, Tensor&) {
  return stream_pays(dy, w, p);
}

// Before the other variants, whatever order the files register in.
constexpr int kFirst = KernelSlotBase::kOwn + 2;
const bool depthwise_stream_registered =
    depthwise_conv2d_forward.add(
        kThisDevice,
        {{"wide_stream", fits_forward_wide, run_stream<kWideStrip>, forward_wide_pays},
         {"stream", fits_forward_stream, run_stream<kStrip>, forward_stream_pays}},
        kFirst) &&
    depthwise_pool_forward.add(kThisDevice,
                               {{"wide_stream", fits_pool_wide, run_pool<kWideStrip>, pool_wide_pays},
                                {"stream", fits_pool_stream, run_pool<kStrip>}}) &&
    depthwise_conv2d_backward_input.add(
        kThisDevice,
        {{"wide_stream", fits_input_wide, run_input_as_forward<kWideStrip>, input_wide_pays},
         {"stream", fits_input_stream, run_input_stream, input_stream_pays}},
        kFirst);

}  // namespace
}  // namespace plume::PLUME_KERNELS
