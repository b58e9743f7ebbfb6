// How depthwise_stream_weight.cu marches down images for a filter's gradient: of x and, for
// batch_norm_conv.cu, of a norm of it.
#pragma once
#include "kernels/common/row_tiling.h"
#include "kernels/depthwise_stream_norm.h"

namespace plume::PLUME_KERNELS {

inline constexpr int kWeightThreads = 256;  // of a block, at most

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
template <class T, int kFilter, int kStride, class NormOfPair>
__device__ __forceinline__ void add_strip(const T* x, const NormOfPair& norm, const T* dy,
                                          const DepthwiseSizes& s, int image, int q, int channel,
                                          float (&sums)[kFilter * kFilter][kStreamWidth]) {
  using Filter = StreamedFilter<kFilter, kStride>;
  constexpr int kColumns = Filter::kColumns, kLive = Filter::kLive;
  using Rows = StreamedRows<T, kColumns>;
  using Gradients = StreamedRows<T, kStrip>;
  // Steps before and behind these meet no row of x.
  const int begin = s.padding / kStride;
  const int end = min(s.out_height + kLive - 1, (s.height + s.padding + kStride - 1) / kStride);
  Rows input(x, image, s.height, s.width, s.channels, begin * kStride - s.padding, q * kStride - s.padding,
             channel);
  Gradients gradient(dy, image, s.out_height, s.out_width, s.channels, 0, q, channel);
  typename Rows::Word ahead[kColumns] = {};
  typename Gradients::Word gradient_ahead[kStrip] = {};
  input.fetch(true, ahead);
  gradient.fetch(true, gradient_ahead);

  float gradients[kLive][kStrip][kStreamWidth] = {};  // row step - j of dy; zeros before the first
  const auto next_gradients = [&] {
    move_down(gradients);
    Gradients::widen(gradient_ahead, gradients[0]);
    gradient.fetch(true, gradient_ahead);  // zeros behind the last
  };
  int step = 0;
#pragma unroll 1
  for (; step < begin; ++step) next_gradients();
#pragma unroll 1
  for (; step < end; ++step) {
    next_gradients();
#pragma unroll
    for (int k = 0; k < kStride; ++k) {
      float values[kColumns][kStreamWidth];
      Rows::widen(ahead, values);
      input.fetch(true, ahead);
      // The first of two rows may lie above the image, the second one below.
      if (kStride > 1 && unsigned(step * kStride + k - s.padding) >= unsigned(s.height)) continue;
      norm.template apply<T>(input.inside(), values);
      Filter::for_each_product(k, [&](int j, int column, int pixel, int tap, int c) {
        sums[tap][c] += values[pixel][c] * gradients[j][column][c];
      });
    }
  }
}

// Where a thread of a slice stands.
struct WeightThread {
  int thread, pairs, group, pair, channel;
  bool has_channels;

  __device__ __forceinline__ explicit WeightThread(const WeightTiling& tiling)
      : thread(int(threadIdx.x)), pairs(tiling.pairs_of_tile), group(thread / pairs) {
    pair = int(blockIdx.x) * pairs + thread % pairs;
    channel = pair * kStreamWidth;
    has_channels = pair < tiling.pairs;
  }
  // Adds what the block's groups have of some values, for group 0; `shared` is free before and behind it.
  template <int kCount>
  __device__ __forceinline__ void add_groups(const WeightTiling& tiling, const float (&mine)[kCount],
                                             float (*shared)[kWeightThreads], float (&sums)[kCount]) const {
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kCount; ++i) shared[i][thread] = mine[i];
    __syncthreads();
    if (group != 0) return;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      sums[i] = 0.0f;
#pragma unroll 1
      for (int g = 0; g < tiling.groups; ++g) sums[i] += shared[i][g * pairs + thread];
    }
  }
};

// Leaves the block's sums of all taps in partial[blockIdx.y].
template <int kFilter>
__device__ __forceinline__ void leave_taps(const WeightThread& at, const WeightTiling& tiling,
                                           const float (&sums)[kFilter * kFilter][kStreamWidth], int channels,
                                           float (*shared)[kWeightThreads], float* __restrict__ partial) {
  float* const to = partial + int64_t(blockIdx.y) * (kFilter * kFilter * channels) + at.channel;
#pragma unroll
  for (int r = 0; r < kFilter; ++r) {
    float mine[kFilter * kStreamWidth], all[kFilter * kStreamWidth];
#pragma unroll
    for (int i = 0; i < kFilter * kStreamWidth; ++i)
      mine[i] = sums[r * kFilter + i / kStreamWidth][i % kStreamWidth];
    at.add_groups(tiling, mine, shared, all);
    if (at.group != 0 || !at.has_channels) continue;
#pragma unroll
    for (int t = 0; t < kFilter; ++t) {
      Pack<float, kStreamWidth> total;
#pragma unroll
      for (int c = 0; c < kStreamWidth; ++c) total[c] = all[t * kStreamWidth + c];
      total.store(to + int64_t(r * kFilter + t) * channels);
    }
  }
}

// The sums of a slice.
template <class T, int kFilter, int kStride, class Before>
__device__ __forceinline__ void march_weight(const T* __restrict__ x, const Before& before,
                                             const T* __restrict__ dy, const DepthwiseSizes& s,
                                             const WeightTiling& tiling, float* __restrict__ partial) {
  SMEM(shared, float[kFilter * kStreamWidth][kWeightThreads]);
  const WeightThread at(tiling);
  float sums[kFilter * kFilter][kStreamWidth] = {};
  const int across = (s.out_width + kStrip - 1) / kStrip, step = int(tiling.slices) * tiling.groups;
  if (at.has_channels) {
    const auto norm = before.of(at.channel);
    for (int strip = int(blockIdx.y) * tiling.groups + at.group; strip < int(tiling.strips); strip += step)
      add_strip<T, kFilter, kStride>(x, norm, dy, s, strip / across, strip % across * kStrip, at.channel,
                                     sums);
  }
  leave_taps<kFilter>(at, tiling, sums, s.channels, shared, partial);
}

// Blocks on a multiprocessor.
constexpr int weight_blocks(int filter) { return filter == 3 ? 2 : 1; }

}  // namespace plume::PLUME_KERNELS
