// depthwise_conv2d forward, a ladder of three. All have a thread hold 16 bytes of channels, neighbours in
// memory, so that a warp reads whole cache lines of a pixel or of neighbouring pixels. (depthwise_stream.cu
// comes before them where it fits.)
//
//   direct  One output pixel per thread: R S loads of x and of w for R S products. Any size, stride,
//           dilation.
//   rows    Four neighbouring outputs of a row per thread, for 3x3 and 5x5, stride 1 and 2: under one filter
//           row they read 6 pixels of x instead of 12 (3x3), 8 instead of 20 (5x5), and each tap once instead
//           of four times. Per output 6.75 loads for 9 products (3x3, stride 1) instead of 18. Other rows'
//           reuse is the L1's.
//   tiled   A block computes 8 x 8 outputs (4 x 8 at stride 2) of up to 8 packs: it stages the input under
//           them, with its halo, and the filter in shared memory, so that DRAM and L2 see each input
//           (8 + 2)^2 / 64 = 1.6 times (3x3, stride 1) whatever the L1 does. The strip of the rows variant
//           then reads shared memory.
//
// Bytes: x and y once, the filter is small; 2 R S FLOPs per output: at 18 to 50 FLOPs for 4 bytes (f16) every
// variant can at best be as fast as a copy. `rows` comes first: its halo is in the L1, and it needs no
// barrier.
#include <algorithm>

#include "kernels/common/finish.h"
#include "kernels/common/grid_stride.h"
#include "kernels/common/row_tiling.h"
#include "kernels/depthwise_sizes.h"

namespace plume::PLUME_KERNELS {
namespace {

template <class T, int kWidth>
__device__ __forceinline__ void store_outputs(const float (&sum)[kWidth], const EpilogueView<T>& finish,
                                              int channel, int64_t at, T* y) {
  finish_pack<T, kWidth>(finish, sum, channel, at).store(y + at);
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kElementThreads, 1)
    depthwise_forward_direct(const T* __restrict__ x, const T* __restrict__ w, DepthwiseSizes s,
                             EpilogueView<T> finish, T* __restrict__ y, int64_t items) {
  for (int64_t item = grid_thread(); item < items; item += grid_threads()) {
    const DepthwiseIndex at(item, s.out_height, s.out_width, s.channels / kWidth);
    const int channel = at.pack * kWidth;
    float sum[kWidth] = {};
    for (int r = 0; r < s.filter_height; ++r) {
      for (int t = 0; t < s.filter_width; ++t) {
        const int h = at.row * s.stride - s.padding + r * s.dilation;
        const int v = at.column * s.stride - s.padding + t * s.dilation;
        if (!s.inside(h, v)) continue;
        const auto values = Pack<T, kWidth>::load(
            x + ((int64_t(at.image) * s.height + h) * s.width + v) * s.channels + channel);
        const auto tap = Pack<T, kWidth>::load(w + (r * s.filter_width + t) * s.channels + channel);
#pragma unroll
        for (int i = 0; i < kWidth; ++i) sum[i] += float(values[i]) * float(tap[i]);
      }
    }
    store_outputs<T, kWidth>(sum, finish, channel, item * kWidth, y);
  }
}

// `turned`: with the filter turned by 180 degrees, which makes the input gradient of stride 1.
template <class T, int kWidth, int kFilter, int kStride>
__global__ void __launch_bounds__(kElementThreads, 1)
    depthwise_forward_rows(const T* __restrict__ x, const T* __restrict__ w, DepthwiseSizes s,
                           EpilogueView<T> finish, T* __restrict__ y, bool turned, int64_t items) {
  using Vector = Pack<T, kWidth>;
  const int strips = (s.out_width + kStrip - 1) / kStrip;
  for (int64_t item = grid_thread(); item < items; item += grid_threads()) {
    const DepthwiseIndex at(item, s.out_height, strips, s.channels / kWidth);
    const int channel = at.pack * kWidth, q = at.column * kStrip, left = q * kStride - s.padding;
    float sums[kStrip][kWidth] = {};
    for (int r = 0; r < kFilter; ++r) {
      const int h = at.row * kStride - s.padding + r;
      if (unsigned(h) >= unsigned(s.height)) continue;
      const T* line = x + ((int64_t(at.image) * s.height + h) * s.width + left) * s.channels + channel;
      const T* filter = w + channel;
      add_filter_row<T, kWidth, kFilter, kStride>(
          sums,
          [&](int t) {
            const int tap = r * kFilter + t;
            return Vector::load(filter + (turned ? kFilter * kFilter - 1 - tap : tap) * s.channels);
          },
          [&](int t) { return unsigned(left + t) < unsigned(s.width); },
          [&](int t) { return Vector::load(line + t * s.channels); });
    }
    const int64_t first =
        ((int64_t(at.image) * s.out_height + at.row) * s.out_width + q) * s.channels + channel;
#pragma unroll
    for (int j = 0; j < kStrip; ++j)
      if (q + j < s.out_width) store_outputs<T, kWidth>(sums[j], finish, channel, first + j * s.channels, y);
  }
}

constexpr int kTileColumns = 8, kTilePacks = 8;  // outputs across, packs of channels
constexpr int tile_rows(int stride) { return 8 / stride; }
constexpr int tile_threads(int stride) { return kTilePacks * tile_rows(stride) * (kTileColumns / kStrip); }

template <class T, int kWidth, int kFilter, int kStride>
__global__ void __launch_bounds__(tile_threads(kStride), 1)
    depthwise_forward_tiled(const T* __restrict__ x, const T* __restrict__ w, DepthwiseSizes s,
                            EpilogueView<T> finish, T* __restrict__ y) {
  using Vector = Pack<T, kWidth>;
  constexpr int kRows = tile_rows(kStride), kStrips = kRows * (kTileColumns / kStrip);
  constexpr int kHaloRows = (kRows - 1) * kStride + kFilter,
                kHaloColumns = (kTileColumns - 1) * kStride + kFilter;
  SMEM(tile, Vector[kHaloRows][kHaloColumns][kTilePacks]);
  SMEM(filter, Vector[kFilter * kFilter][kTilePacks]);
  const int tiles_across = (s.out_width + kTileColumns - 1) / kTileColumns;
  const int tiles_down = (s.out_height + kRows - 1) / kRows;
  const int q0 = int(blockIdx.x) % tiles_across * kTileColumns;
  const int p0 = int(blockIdx.x) / tiles_across % tiles_down * kRows;
  const int image = int(blockIdx.x) / (tiles_across * tiles_down);
  const int pack = int(threadIdx.x) % kTilePacks, strip = int(threadIdx.x) / kTilePacks;
  const int channel = (int(blockIdx.y) * kTilePacks + pack) * kWidth;
  const bool has_channels = channel < s.channels;
  const int top = p0 * kStride - s.padding, left = q0 * kStride - s.padding;

  for (int i = strip; i < kHaloRows * kHaloColumns; i += kStrips) {
    const int h = top + i / kHaloColumns, v = left + i % kHaloColumns;
    tile[i / kHaloColumns][i % kHaloColumns][pack] =
        has_channels && s.inside(h, v)
            ? Vector::load(x + ((int64_t(image) * s.height + h) * s.width + v) * s.channels + channel)
            : Vector::filled(T(0.0f));
  }
  for (int i = strip; i < kFilter * kFilter; i += kStrips)
    filter[i][pack] = has_channels ? Vector::load(w + i * s.channels + channel) : Vector::filled(T(0.0f));
  __syncthreads();

  const int p = strip / (kTileColumns / kStrip), q = strip % (kTileColumns / kStrip) * kStrip;
  float sums[kStrip][kWidth] = {};
#pragma unroll
  for (int r = 0; r < kFilter; ++r)
    add_filter_row<T, kWidth, kFilter, kStride>(
        sums, [&](int t) { return filter[r * kFilter + t][pack]; }, [](int) { return true; },
        [&](int t) { return tile[p * kStride + r][q * kStride + t][pack]; });
  if (!has_channels || p0 + p >= s.out_height) return;
  const int64_t first =
      ((int64_t(image) * s.out_height + p0 + p) * s.out_width + q0 + q) * s.channels + channel;
#pragma unroll
  for (int j = 0; j < kStrip; ++j)
    if (q0 + q + j < s.out_width)
      store_outputs<T, kWidth>(sums[j], finish, channel, first + j * s.channels, y);
}

void run_direct(Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& params,
                const Epilogue& epilogue, Tensor& y) {
  if (y.size() == 0) return;
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    with_pack_width<T>(x.dim(3), [&](auto width) {
      const int64_t items = y.size() / width;
      simt::launch<depthwise_forward_direct<T, width>>(grid_stride(context, items), x.data<T>(), w.data<T>(),
                                                       DepthwiseSizes(x, w, y, params),
                                                       EpilogueView<T>(epilogue), y.data<T>(), items);
    });
  });
}

void launch_rows(Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& params,
                 const Epilogue& epilogue, bool turned, Tensor& y) {
  if (y.size() == 0) return;
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    with_pack_width<T>(x.dim(3), [&](auto width) {
      dispatch_depthwise_filter(w.dim(0), params.stride, [&](auto filter, auto stride) {
        const int64_t items = y.dim(0) * y.dim(1) * ceil_div(y.dim(2), kStrip) * (y.dim(3) / width);
        simt::launch<depthwise_forward_rows<T, width, filter, stride>>(
            grid_stride(context, items), x.data<T>(), w.data<T>(), DepthwiseSizes(x, w, y, params),
            EpilogueView<T>(epilogue), y.data<T>(), turned, items);
      });
    });
  });
}

void run_rows(Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& params,
              const Epilogue& epilogue, Tensor& y) {
  launch_rows(context, x, w, params, epilogue, false, y);
}

void run_tiled(Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& params,
               const Epilogue& epilogue, Tensor& y) {
  if (y.size() == 0) return;
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    constexpr int kWidth = kVectorWidth<T>;
    dispatch_depthwise_filter(w.dim(0), params.stride, [&](auto filter, auto stride) {
      const int64_t tiles =
          y.dim(0) * ceil_div(y.dim(1), tile_rows(stride)) * ceil_div(y.dim(2), kTileColumns);
      const dim3 grid(unsigned(tiles), unsigned(ceil_div(x.dim(3), kTilePacks * kWidth)));
      simt::launch<depthwise_forward_tiled<T, kWidth, filter, stride>>(
          {grid, dim3(tile_threads(stride)), 0, stream_of(context)}, x.data<T>(), w.data<T>(),
          DepthwiseSizes(x, w, y, params), EpilogueView<T>(epilogue), y.data<T>());
    });
  });
}

// Stride 1: the gradient is the convolution of dy with the turned filter.
void run_input_rows(Context& context, const Tensor& dy, const Tensor& w, const Conv2dParams& params,
                    Tensor& dx) {
  launch_rows(context, dy, w, {1, int(w.dim(0)) - 1 - params.padding, 1}, {}, true, dx);
}

bool fits_rows(const Context&, const Tensor&, const Tensor& w, const Conv2dParams& p, const Epilogue&,
               Tensor&) {
  return is_common_depthwise(w.dim(0), w.dim(1), p);
}
bool fits_tiled(const Context&, const Tensor& x, const Tensor& w, const Conv2dParams& p, const Epilogue&,
                Tensor&) {
  const int64_t width = x.dtype() == DType::f32 ? kVectorWidth<float> : kVectorWidth<f16>;
  return is_common_depthwise(w.dim(0), w.dim(1), p) && x.dim(3) % width == 0;
}
bool fits_input_rows(const Context&, const Tensor&, const Tensor& w, const Conv2dParams& p, Tensor&) {
  return is_common_depthwise(w.dim(0), w.dim(1), p) && p.stride == 1 && p.padding < w.dim(0);
}

// Before the gradient's direct variant (depthwise_conv2d_backward.cu), whatever order the files register in.
const bool depthwise_conv2d_registered =
    depthwise_conv2d_forward.add(
        kThisDevice,
        {{"rows", fits_rows, run_rows}, {"tiled", fits_tiled, run_tiled}, {"direct", always, run_direct}}) &&
    depthwise_conv2d_backward_input.add(kThisDevice, {{"rows", fits_input_rows, run_input_rows}},
                                        KernelSlotBase::kOwn + 1);

}  // namespace
}  // namespace plume::PLUME_KERNELS
