// The filter gradient of depthwise_conv2d for 3x3 and 5x5 filters, strides 1 and 2, "stream": marching down
// the image (depthwise_stream.h).
//
// dw[r, s, c] is a sum over all N P Q outputs. A thread keeps the sums of all R S taps of two channels in
// registers, and the rows of dy that the next row of x meets, four columns wide: x and dy are read and
// widened once, where two_pass reads both once per filter row. It takes strips of columns of all images, one
// after the other, from their first row to their last.
//
// blockIdx.x counts tiles of channels, blockIdx.y slices of the strips; in a block neighbouring threads have
// neighbouring channels, in as many groups as there is room for. The groups' sums are added through shared
// memory, a filter row at a time, those of the slices by a second launch: the order depends on the shape
// alone.
//
// Bytes: x and dy once, and the partial sums: slices * R S C floats out and in again, a tenth of x and dy in
// the widest layers. Instructions per output and multiply-adds among them (sm_90, bf16, stride 1): 3x3 25 and
// 9, 5x5 47 and 25; two_pass has 91 and 214.
#include "kernels/common/row_tiling.h"
#include "kernels/depthwise_stream.h"

namespace plume::PLUME_KERNELS {
namespace {

constexpr int kWeightThreads = 256;  // of a block, at most

// How the pairs of channels and the strips of columns are shared out.
struct WeightTiling {
  int pairs, pairs_of_tile, groups;  // groups of threads with the same channels
  int64_t strips, slices;

  WeightTiling(int64_t images, int64_t columns, int64_t channels) {
    constexpr int64_t kBlocks = 264;  // two for every multiprocessor of a large GPU
    pairs = int(channels / kStreamWidth);
    const int64_t tiles = ceil_div(pairs, kWeightThreads);
    pairs_of_tile = int(ceil_div(pairs, tiles));
    groups = kWeightThreads / pairs_of_tile;
    strips = images * ceil_div(columns, kStrip);
    slices = std::max<int64_t>(std::min(ceil_div(kBlocks, tiles), ceil_div(strips, groups)), 1);
  }
  simt::Launch launch(const Context& context) const {
    return {dim3(unsigned(ceil_div(pairs, pairs_of_tile)), unsigned(slices)),
            dim3(unsigned(pairs_of_tile * groups)), 0, stream_of(context)};
  }
};

// The rows of one strip: x meets dy.
template <class T, int kFilter, int kStride>
__device__ __forceinline__ void add_strip(const T* x, const T* dy, const DepthwiseSizes& s, int image, int q,
                                          int channel, float (&sums)[kFilter * kFilter][kStreamWidth]) {
  using Filter = StreamedFilter<kFilter, kStride>;
  constexpr int kColumns = Filter::kColumns, kLive = Filter::kLive;
  using Rows = StreamedRows<T, kColumns>;
  using Gradients = StreamedRows<T, kStrip>;
  Rows input(x, image, s.height, s.width, s.channels, -s.padding, q * kStride - s.padding, channel);
  Gradients gradient(dy, image, s.out_height, s.out_width, s.channels, 0, q, channel);
  typename Rows::Word ahead[kColumns] = {};
  typename Gradients::Word gradient_ahead[kStrip] = {};
  input.fetch(true, ahead);
  gradient.fetch(true, gradient_ahead);

  float gradients[kLive][kStrip][kStreamWidth] = {};  // row step - j of dy; zeros before the first
#pragma unroll 1
  for (int step = 0; step < s.out_height + kLive - 1; ++step) {
    move_down(gradients);
    Gradients::widen(gradient_ahead, gradients[0]);
    gradient.fetch(true, gradient_ahead);  // zeros behind the last
#pragma unroll
    for (int k = 0; k < kStride; ++k) {
      const int row = step * kStride + k - s.padding;
      float values[kColumns][kStreamWidth];
      Rows::widen(ahead, values);
      input.fetch(true, ahead);
      if (unsigned(row) >= unsigned(s.height)) continue;
      Filter::for_each_product(k, [&](int j, int column, int pixel, int tap, int c) {
        sums[tap][c] += values[pixel][c] * gradients[j][column][c];
      });
    }
  }
}

template <class T, int kFilter, int kStride>
__global__ void __launch_bounds__(kWeightThreads, kFilter == 3 ? 2 : 1)
    depthwise_backward_weight_stream(const T* __restrict__ x, const T* __restrict__ dy, DepthwiseSizes s,
                                     WeightTiling tiling, float* __restrict__ partial) {
  constexpr int kRowSums = kFilter * kStreamWidth;
  SMEM(shared, float[kRowSums][kWeightThreads]);
  const int thread = int(threadIdx.x), pairs = tiling.pairs_of_tile, group = thread / pairs;
  const int pair = int(blockIdx.x) * pairs + thread % pairs, channel = pair * kStreamWidth;
  const bool has_channels = pair < tiling.pairs;
  float sums[kFilter * kFilter][kStreamWidth] = {};
  const int across = (s.out_width + kStrip - 1) / kStrip;
  const int64_t step = tiling.slices * tiling.groups;
  if (has_channels)
    for (int64_t strip = int64_t(blockIdx.y) * tiling.groups + group; strip < tiling.strips; strip += step)
      add_strip<T, kFilter, kStride>(x, dy, s, int(strip / across), int(strip % across) * kStrip, channel,
                                     sums);

  float* const to = partial + int64_t(blockIdx.y) * (kFilter * kFilter * s.channels) + channel;
#pragma unroll
  for (int r = 0; r < kFilter; ++r) {
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kRowSums; ++i)
      shared[i][thread] = sums[r * kFilter + i / kStreamWidth][i % kStreamWidth];
    __syncthreads();
    if (group != 0 || !has_channels) continue;
#pragma unroll
    for (int t = 0; t < kFilter; ++t) {
      Pack<float, kStreamWidth> total;
#pragma unroll
      for (int c = 0; c < kStreamWidth; ++c) {
        float sum = 0.0f;
#pragma unroll 1
        for (int g = 0; g < tiling.groups; ++g) sum += shared[t * kStreamWidth + c][g * pairs + thread];
        total[c] = sum;
      }
      total.store(to + int64_t(r * kFilter + t) * s.channels);
    }
  }
}

void run_weight_stream(Context& context, const Tensor& x, const Tensor& dy, const Conv2dParams& params,
                       Tensor& dw) {
  if (dw.size() == 0) return;
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    dispatch_depthwise_filter(dw.dim(0), params.stride, [&](auto filter, auto stride) {
      const WeightTiling tiling(dy.dim(0), dy.dim(2), dw.dim(2));
      Tensor partial = Tensor::empty({tiling.slices, dw.size()}, DType::f32, dw.device(), "workspace");
      simt::launch<depthwise_backward_weight_stream<T, filter, stride>>(
          tiling.launch(context), x.data<T>(), dy.data<T>(), DepthwiseSizes(x, dw, dy, params), tiling,
          partial.data<float>());
      finish_gradient<T>(context, partial, int(tiling.slices), dw);
    });
  });
}

bool fits_weight_stream(const Context&, const Tensor&, const Tensor&, const Conv2dParams& p, Tensor& dw) {
  return fits_stream(dw.shape(), p);
}

const bool depthwise_stream_weight_registered = depthwise_conv2d_backward_weight.add(
    kThisDevice, {{"stream", fits_weight_stream, run_weight_stream}}, KernelSlotBase::kOwn + 1);

}  // namespace
}  // namespace plume::PLUME_KERNELS
