// The passes of batch_norm.cu, which sync_batch_norm.cu takes apart: between statistics and normalisation,
// and between the sums of the gradient and dx, it talks to other ranks. See there for the algorithm and its
// bytes.
#pragma once
#include "engine/ops/batch_norm.h"
#include "engine/ops/stochastic_depth.h"
#include "kernels/common/last_block.h"
#include "kernels/common/row_tiling.h"

namespace plume::PLUME_KERNELS {
namespace {

// Count, mean (from the channel's first value) and sum of squared distances from the mean.
struct Moments {
  float count, mean, m2;
};

__device__ __forceinline__ Moments merge(const Moments& a, const Moments& b) {
  const float count = a.count + b.count;
  if (count == 0.0f) return a;
  const float delta = b.mean - a.mean, share = b.count / count;
  return {count, a.mean + delta * share, a.m2 + b.m2 + delta * delta * a.count * share};
}

// Merges the moments of the threads with equal threadIdx.x, one channel at a time, into threadIdx.y = 0.
__device__ __forceinline__ Moments merge_over_rows_of_block(Moments mine) {
  SMEM(shared, Moments[kTilingThreads]);
  const int thread = int(threadIdx.y * blockDim.x + threadIdx.x);
  __syncthreads();  // the last channel's moments have been read
  shared[thread] = mine;
  for (int half = int(blockDim.y) / 2; half > 0; half /= 2) {
    __syncthreads();
    if (int(threadIdx.y) < half) {
      mine = merge(mine, shared[thread + half * int(blockDim.x)]);
      shared[thread] = mine;
    }
  }
  return mine;
}

// Reductions over the grid end in the last block of each tile of channels (last_block.h). So that this is
// short, tiles are as narrow as a cache line of 128 bytes, and there are only as many blocks as run at once:
// each of the last block's 256 threads adds up a few dozen slices.
inline constexpr unsigned kReductionLanes = 8;
inline constexpr int64_t kReductionBlocks = 528;  // four for every multiprocessor of a large GPU

// How the threads of that block share its tile's channels: one each, and some slices.
struct TileShare {
  int channel, first_slice, step;  // of the thread; neighbouring threads have neighbouring channels
  int place;                       // in the tile

  __device__ explicit TileShare(int width) {
    const int thread = int(threadIdx.y * blockDim.x + threadIdx.x), tile = int(blockDim.x) * width;
    place = thread % tile;
    channel = int(blockIdx.x) * tile + place;
    first_slice = thread / tile;
    step = kTilingThreads / tile;
  }
};

// The moments of the thread's channels over its rows, counted from the first row of x.
template <class T, int kWidth>
__device__ __forceinline__ void walk_moments(const T* __restrict__ x, int channels,
                                             const RowWalk<kWidth>& walk, float& count, float (&mean)[kWidth],
                                             float (&m2)[kWidth]) {
  if (walk.channel >= channels) return;
  const auto origin = Pack<T, kWidth>::load(x + walk.channel);
  for (int64_t row = walk.first; row < walk.last; row += walk.step) {
    const auto v = Pack<T, kWidth>::load(x + row * channels + walk.channel);
    count += 1.0f;
    const float share = 1.0f / count;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float shifted = float(v[i]) - float(origin[i]), delta = shifted - mean[i];
      mean[i] += delta * share;
      m2[i] += delta * (shifted - mean[i]);
    }
  }
}

// Calls finish(channel, moments) for every channel.
template <class T, int kWidth, class Finish>
__global__ void __launch_bounds__(kTilingThreads, 1)
    batch_statistics(const T* __restrict__ x, int64_t rows, int channels, int64_t rows_per_slice,
                     Moments* partial, unsigned* tickets, Finish finish) {
  const RowWalk<kWidth> walk(rows, rows_per_slice);
  float count = 0.0f, mean[kWidth] = {}, m2[kWidth] = {};
  walk_moments(x, channels, walk, count, mean, m2);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    const Moments merged = merge_over_rows_of_block({count, mean[i], m2[i]});
    if (threadIdx.y == 0 && walk.channel < channels)
      partial[int64_t(blockIdx.y) * channels + walk.channel + i] = merged;
  }
  if (!is_last_block(tickets + blockIdx.x, gridDim.y)) return;
  const TileShare share(kWidth);
  Moments mine{0.0f, 0.0f, 0.0f};
  if (share.channel < channels) {
#pragma unroll 4
    for (int slice = share.first_slice; slice < int(gridDim.y); slice += share.step)
      mine = merge(mine, partial[int64_t(slice) * channels + share.channel]);
  }
  SMEM(merging, Moments[kTilingThreads]);
  const int thread = share.first_slice * (kTilingThreads / share.step) + share.place;
  merging[thread] = mine;
  for (int half = share.step / 2; half > 0; half /= 2) {
    __syncthreads();
    if (share.first_slice < half) {
      mine = merge(mine, merging[thread + half * (kTilingThreads / share.step)]);
      merging[thread] = mine;
    }
  }
  if (share.first_slice != 0 || share.channel >= channels) return;
  mine.mean += float(x[share.channel]);  // it was counted from the first row
  finish(share.channel, mine);
}

// var and count may be null.
struct Statistics {
  float *mean, *inv_std, *running_mean, *running_var, *var, *count;
};

struct FinishStatistics {
  float eps, momentum;
  Statistics out;

  __device__ void operator()(int c, const Moments& all) const {
    const float variance = all.m2 / all.count, unbiased = all.m2 / fmaxf(all.count - 1.0f, 1.0f);
    out.mean[c] = all.mean;
    out.inv_std[c] = 1.0f / sqrtf(variance + eps);
    out.running_mean[c] = (1.0f - momentum) * out.running_mean[c] + momentum * all.mean;
    out.running_var[c] = (1.0f - momentum) * out.running_var[c] + momentum * unbiased;
    if (out.var) out.var[c] = variance;
    if (out.count) out.count[c] = all.count;
  }
};

// The scales of samples (SampleDrop), of `plane` rows each; state null: 1. A thread's walk finds each once.
struct DropView {
  const int64_t* state;
  DropoutParams params;
  int64_t plane;

  DropView() : state(nullptr), plane(1) {}
  DropView(const SampleDrop& drop, const Tensor& x)
      : state(drop.state.defined() ? drop.state.data<int64_t>() : nullptr),
        params(drop.params),
        plane(x.size() / x.dim(-1) / x.dim(0)) {}
};
struct SampleScale {
  const DropView& drop;
  int64_t image;
  float scale;

  __device__ explicit SampleScale(const DropView& view) : drop(view), image(-1), scale(1.0f) {}
  __device__ float of_row(int64_t row) {
    if (!drop.state) return 1.0f;
    if (const int64_t n = row / drop.plane; n != image) {
      image = n;
      scale = stochastic_depth_scale(drop.state, drop.params, n);
    }
    return scale;
  }
};

// The arrays [channels] that pass 2 reads. Evaluation brings var, training inv_std; the other is null.
struct Normalisation {
  const float *gamma, *beta, *mean, *inv_std, *var;
  float eps;
  Activation activation;
  DropView drop;
};

template <class T, int kWidth>
__device__ __forceinline__ void normalise_rows(const T* __restrict__ x, const T* __restrict__ residual,
                                               int channels, const RowWalk<kWidth>& walk,
                                               const Normalisation& norm, T* __restrict__ y) {
  if (walk.channel >= channels) return;
  float mean[kWidth], scale[kWidth], beta[kWidth];
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    const int c = walk.channel + i;
    mean[i] = norm.mean[c];
    scale[i] = norm.gamma[c] * (norm.var ? 1.0f / sqrtf(norm.var[c] + norm.eps) : norm.inv_std[c]);
    beta[i] = norm.beta[c];
  }
  SampleScale samples(norm.drop);
  for (int64_t row = walk.first; row < walk.last; row += walk.step) {
    const int64_t at = row * channels + walk.channel;
    auto v = Pack<T, kWidth>::load(x + at);
    Pack<T, kWidth> extra = Pack<T, kWidth>::filled(T(0.0f));
    if (residual) extra = Pack<T, kWidth>::load(residual + at);
    const float kept = samples.of_row(row);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float z = (float(v[i]) - mean[i]) * scale[i] + beta[i], shortcut = float(extra[i]);
      v[i] = T(norm.drop.state ? activate(norm.activation, z) * kept + shortcut
                               : activate(norm.activation, z + shortcut));
    }
    v.store(y + at);
  }
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kTilingThreads, 1)
    normalise(const T* __restrict__ x, const T* __restrict__ residual, int64_t rows, int channels,
              int64_t rows_per_slice, Normalisation norm, T* __restrict__ y) {
  normalise_rows(x, residual, channels, RowWalk<kWidth>(rows, rows_per_slice), norm, y);
}

template <class T>
const T* data_or_null(const Tensor& t) {
  return t.defined() ? t.data<T>() : nullptr;
}

// Calls f(T{}, integral_constant pack width, tiling) for a [.., channels] tensor.
template <class F>
void with_tiling(const Tensor& x, F&& f) {
  dispatch_floating(x.dtype(), [&](auto zero) {
    with_pack_width<decltype(zero)>(x.dim(-1), [&](auto width) {
      f(zero, width, RowTiling(x.size() / x.dim(-1), x.dim(-1) / decltype(width)::value));
    });
  });
}

inline RowTiling reduction_tiling(int64_t rows, int64_t packs) {
  const RowTiling tiling(rows, packs, kReductionLanes, kReductionBlocks);
  PLUME_CHECK(tiling.grid.x <= kTickets, "batch_norm: {} packs of channels are too many", packs);
  return tiling;
}

template <class T, int kWidth, class Finish>
void launch_statistics(Context& context, const Tensor& x, const Finish& finish) {
  const int64_t channels = x.dim(-1), rows = x.size() / channels;
  const RowTiling tiling = reduction_tiling(rows, channels / kWidth);
  Tensor partial = Tensor::empty({tiling.slices(), channels, 3}, DType::f32, x.device(), "workspace");
  simt::launch<batch_statistics<T, kWidth, Finish>>(tiling.launch(context), x.data<T>(), rows, int(channels),
                                                    tiling.rows_per_slice,
                                                    static_cast<Moments*>(partial.raw()), tickets(), finish);
}

}  // namespace
}  // namespace plume::PLUME_KERNELS
