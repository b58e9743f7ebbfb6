// The passes of batch_norm.cu, which sync_batch_norm.cu takes apart: between statistics and normalisation,
// and between the sums of the gradient and dx, it talks to other ranks. See there for the algorithm and its
// bytes.
#pragma once
#include "engine/ops/batch_norm.h"
#include "engine/ops/stochastic_depth.h"
#include "kernels/batch_norm_columns.h"
#include "kernels/common/last_block.h"

namespace plume::PLUME_KERNELS {
namespace {

// Of some values of a channel: count, mean (less `from`) and sum of squared distances from the mean. A `from`
// near the values keeps the digits of a mean that is large beside their deviation.
struct alignas(16) Moments {
  float count, from, mean, m2;
};

__device__ __forceinline__ Moments merge(const Moments& a, const Moments& b) {
  if (a.count == 0.0f) return b;
  const float count = a.count + b.count, share = b.count / count;
  const float delta = (b.from - a.from) + (b.mean - a.mean);
  return {count, a.from, a.mean + delta * share, a.m2 + b.m2 + delta * delta * a.count * share};
}

// As many rows as one block takes through all passes: of a tile of 128 bytes these are 128 KiB, read by one
// multiprocessor in a microsecond or two, what a launch of its own would cost.
inline constexpr int64_t kRowsOfOneBlock = 1024;

// Reductions over the grid end in the last block of each tile of columns (last_block.h). So that this is
// short, tiles are as narrow as a cache line of 128 bytes, and there are only as many blocks as run at once:
// each of the last block's 256 threads adds up a few dozen slices.
inline constexpr unsigned kReductionLanes = 8;
inline constexpr int64_t kReductionBlocks = 264;  // two for every multiprocessor of a large GPU

// How the threads of that block share its tile's columns: one each, and some slices.
struct TileShare {
  int channel, first_slice, step;  // of the thread; neighbouring threads have neighbouring columns
  int place;                       // in the tile

  __device__ TileShare(unsigned tile, int width) {
    const int thread = int(threadIdx.y * blockDim.x + threadIdx.x), columns = int(blockDim.x) * width;
    place = thread % columns;
    channel = int(tile) * columns + place;
    first_slice = thread / columns;
    step = kTilingThreads / columns;
  }
};

// Leaves `mine`, of the columns of the threads with threadIdx.y = 0, in partial [slices, columns]. The last
// block to do so calls finish(channel, value) of all merged in order; one more row of partial is for the
// columns' own, which are merged where they are not channels. True in the block that has called finish: for
// its tile, or, where columns are not channels, for all.
template <int kWidth, class Value, class Finish>
__device__ __forceinline__ bool merge_slices(const Value (&to_store)[kWidth], int column, Value* partial,
                                             const Columns& all, const SliceOfRows& at, unsigned* tickets,
                                             Finish&& finish) {
  if (threadIdx.y == 0 && column < all.columns) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) partial[int64_t(at.slice) * all.columns + column + i] = to_store[i];
  }
  if (!is_last_block(tickets + 1 + at.tile, at.slices)) return false;
  const TileShare share(at.tile, kWidth);
  Value mine{};
  if (share.channel < all.columns) {
#pragma unroll 4
    for (int slice = share.first_slice; slice < int(at.slices); slice += share.step)
      mine = merge(mine, partial[int64_t(slice) * all.columns + share.channel]);
  }
  SMEM(merging, Value[kTilingThreads]);
  const int tile = kTilingThreads / share.step, thread = share.first_slice * tile + share.place;
  merging[thread] = mine;
  for (int half = share.step / 2; half > 0; half /= 2) {
    __syncthreads();
    if (share.first_slice < half) merging[thread] = mine = merge(mine, merging[thread + half * tile]);
  }
  const bool here = share.first_slice == 0 && share.channel < all.columns;
  if (all.plain()) {
    if (here) finish(share.channel, mine);
    return true;
  }
  Value* const columns = partial + int64_t(at.slices) * all.columns;
  if (here) columns[share.channel] = mine;
  if (!is_last_block(tickets, at.tiles)) return false;
  for (int c = int(threadIdx.y * blockDim.x + threadIdx.x); c < all.channels; c += kTilingThreads) {
    Value sum = columns[c];
    for (int other = c + all.channels; other < all.columns; other += all.channels)
      sum = merge(sum, columns[other]);
    finish(c, sum);
  }
  return true;
}

// The moments of the rows from `begin` to the walk's last, of which the threads of some columns have each
// some: sum(values) adds theirs up. The sums are those of x minus the mean of a few rows: a first value alone
// may be far from all others.
template <class T, int kWidth, class Walk, class Sum>
__device__ __forceinline__ void moments_of_rows(const T* x, const Columns& all, const Walk& walk,
                                                int64_t begin, Sum&& sum, Moments (&moments)[kWidth]) {
  using Vector = Pack<T, kWidth>;
  const int count = int(walk.last - begin);
  float from[kWidth] = {}, sums[2 * kWidth] = {};
  if (walk.channel < all.columns) {
    const T* const column = x + walk.channel;
    const int samples = min(count, 4);
    for (int row = 0; row < samples; ++row) {
      float v[kWidth];
      Vector::load(column + (begin + row) * all.columns).widen(v);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) from[i] += v[i];
    }
#pragma unroll
    for (int i = 0; i < kWidth; ++i) from[i] *= 1.0f / float(samples);
    typename Vector::Word words[4] = {};
    walk_rows<4>(
        walk, [&](int k, int64_t row) { words[k] = Vector::load(column + row * all.columns).word(); },
        [&](int k, int64_t) {
          float v[kWidth];
          Vector::widen(words[k], v);
#pragma unroll
          for (int i = 0; i < kWidth; ++i) {
            const float shifted = v[i] - from[i];
            sums[i] += shifted;
            sums[kWidth + i] += shifted * shifted;
          }
        });
  }
  sum(sums);
  const float share = 1.0f / float(count);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    const float mean = sums[i] * share, m2 = sums[kWidth + i] - sums[i] * mean;
    moments[i] = {float(count), from[i], mean, m2 < 0.0f ? 0.0f : m2};  // rounding; NaN passes
  }
}

// Those of the block's rows, for the columns of the threads with threadIdx.y = 0.
template <class T, int kWidth>
__device__ __forceinline__ void moments_of_block(const T* __restrict__ x, const Columns& all,
                                                 const RowWalk<kWidth>& walk, Moments (&moments)[kWidth]) {
  moments_of_rows(
      x, all, walk, walk.first - threadIdx.y, [](float(&sums)[2 * kWidth]) { sum_over_rows_of_block(sums); },
      moments);
}

// Calls finish(channel, moments) for every channel.
template <class T, int kWidth, class Finish>
__global__ void __launch_bounds__(kTilingThreads, 1)
    batch_statistics(const T* __restrict__ x, const Columns all, int64_t rows_per_slice, Moments* partial,
                     unsigned* tickets, Finish finish) {
  const RowWalk<kWidth> walk(all.rows, rows_per_slice);
  Moments mine[kWidth];
  moments_of_block(x, all, walk, mine);
  merge_slices(mine, walk.channel, partial, all, SliceOfRows::of_block(), tickets, finish);
}

// var and count may be null.
struct Statistics {
  float *mean, *inv_std, *running_mean, *running_var, *var = nullptr, *count = nullptr;

  Statistics(Tensor& m, Tensor& s, Tensor& moving_mean, Tensor& moving_var)
      : mean(m.data<float>()),
        inv_std(s.data<float>()),
        running_mean(moving_mean.data<float>()),
        running_var(moving_var.data<float>()) {}
};

struct FinishStatistics {
  float eps, momentum;
  Statistics out;

  __device__ void operator()(int c, const Moments& all) const {
    const float variance = all.m2 / all.count, unbiased = all.m2 / fmaxf(all.count - 1.0f, 1.0f);
    const float mean = all.from + all.mean;
    out.mean[c] = mean;
    out.inv_std[c] = 1.0f / sqrtf(variance + eps);
    out.running_mean[c] = (1.0f - momentum) * out.running_mean[c] + momentum * mean;
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
  DropView drop;
};

// Of whoever wants to see the values of a pass before they are rounded and stored.
struct SeeNothing {
  template <int kWidth>
  __device__ void operator()(const float (&)[kWidth]) const {}
};

// What is known when this is compiled costs no branches: the activation, and that there is no more, neither a
// residual nor samples that are dropped.
template <class T, int kWidth, int kAtOnce = 2, class Walk, class See = SeeNothing>
__device__ __forceinline__ void normalise_rows(const T* __restrict__ x, const T* __restrict__ residual,
                                               const Columns& all, const Walk& walk,
                                               const Normalisation& norm, Activation activation, bool more,
                                               T* __restrict__ y, See&& see = {}) {
  if (walk.channel >= all.columns) return;
  float mean[kWidth], scale[kWidth], beta[kWidth], gamma[kWidth];
  load_channels(norm.mean, all, walk.channel, mean);
  load_channels(norm.gamma, all, walk.channel, gamma);
  load_channels(norm.beta, all, walk.channel, beta);
  load_channels(norm.var ? norm.var : norm.inv_std, all, walk.channel, scale);
#pragma unroll
  for (int i = 0; i < kWidth; ++i)
    scale[i] = gamma[i] * (norm.var ? 1.0f / sqrtf(scale[i] + norm.eps) : scale[i]);
  SampleScale samples(norm.drop);
  using Vector = Pack<T, kWidth>;
  typename Vector::Word words[kAtOnce] = {}, extras[kAtOnce] = {};
  walk_rows<kAtOnce>(
      walk,
      [&](int k, int64_t step) {
        const int64_t at = row_of(walk, step) * all.columns + walk.channel;
        words[k] = Vector::load(x + at).word();
        if (more && residual) extras[k] = Vector::load(residual + at).word();
      },
      [&](int k, int64_t step) {
        const int64_t row = row_of(walk, step);
        float v[kWidth], extra[kWidth] = {};
        Vector::widen(words[k], v);
        if (more && residual) Vector::widen(extras[k], extra);
        const float kept = more ? samples.of_row(row) : 1.0f;
#pragma unroll
        for (int i = 0; i < kWidth; ++i) {
          const float z = (v[i] - mean[i]) * scale[i] + beta[i];
          if (more && norm.drop.state)
            v[i] = activate(activation, z) * kept + extra[i];
          else
            v[i] = activate(activation, more ? z + extra[i] : z);
        }
        see(v);
        Vector::narrow(v).store(y + row * all.columns + walk.channel);
      });
}

template <class T, int kWidth, int kActivation, bool kMore>
__global__ void __launch_bounds__(kTilingThreads, 1)
    normalise(const T* __restrict__ x, const T* __restrict__ residual, const Columns all, Normalisation norm,
              T* __restrict__ y) {
  normalise_rows<T, kWidth>(x, residual, all, FlatWalk<kWidth>(all), norm, Activation(kActivation), kMore, y);
}

// Both passes of a block that has all rows of its columns.
template <class T, int kWidth>
__device__ __forceinline__ void norm_of_block(const T* x, const T* __restrict__ residual, const Columns& all,
                                              const RowWalk<kWidth>& walk, const FinishStatistics& finish,
                                              const Normalisation& norm, Activation activation,
                                              T* __restrict__ y) {
  Moments mine[kWidth];
  moments_of_block(x, all, walk, mine);
  if (threadIdx.y == 0 && walk.channel < all.columns) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) finish(walk.channel + i, mine[i]);
  }
  __syncthreads();  // what finish wrote is read below
  normalise_rows<T, kWidth>(x, residual, all, walk, norm, activation, true, y);
}

template <class T>
const T* data_or_null(const Tensor& t) {
  return t.defined() ? t.data<T>() : nullptr;
}

// Calls f(T{}, integral_constant pack width, columns) for a [.., channels] tensor. `together`: rows may be
// taken for one.
template <class F>
void with_columns(const Tensor& x, bool together, F&& f) {
  dispatch_floating(x.dtype(), [&](auto zero) {
    constexpr int kVector = kVectorWidth<decltype(zero)>;
    const Columns all = together ? Columns(x, kVector) : Columns(x);
    if (all.columns % kVector == 0)
      f(zero, std::integral_constant<int, kVector>{}, all);
    else
      f(zero, std::integral_constant<int, 1>{}, all);
  });
}
// Samples that are dropped have rows of their own.
template <class F>
void with_columns(const Tensor& x, const SampleDrop& drop, F&& f) {
  with_columns(x, !drop.state.defined(), f);
}

// Calls f(integral_constant activation, bool_constant more) for a kernel: with a pack of one value, where
// time is lost anyway, always with more.
template <int kWidth, class F>
void with_form(Activation activation, bool more, F&& f) {
  dispatch_activation(activation, [&](auto kind) {
    constexpr std::integral_constant<int, int(decltype(kind)::value)> number;
    if constexpr (kWidth > 1) {
      if (!more) return f(number, std::false_type{});
    }
    f(number, std::true_type{});
  });
}

inline RowTiling reduction_tiling(const Columns& all, int width) {
  const RowTiling tiling(all.rows, all.columns / width, kReductionLanes, kReductionBlocks);
  PLUME_CHECK(tiling.grid.x < kTickets, "batch_norm: {} channels are too many", all.channels);
  return tiling;
}

// What the slices of a reduction leave: `floats` per column.
inline Tensor partial_of(const RowTiling& tiling, const Columns& all, int floats, Device device) {
  return Tensor::empty({tiling.slices() + 1, all.columns, floats}, DType::f32, device, "workspace");
}

template <class Finish>
void launch_statistics(Context& context, const Tensor& x, const Finish& finish) {
  with_columns(x, true, [&](auto zero, auto width, const Columns& all) {
    using T = decltype(zero);
    const RowTiling tiling = reduction_tiling(all, width);
    Tensor partial = partial_of(tiling, all, 4, x.device());
    simt::launch<batch_statistics<T, width(), Finish>>(
        tiling.launch(context), x.data<T>(), all, tiling.rows_per_slice, static_cast<Moments*>(partial.raw()),
        tickets(), finish);
  });
}

}  // namespace
}  // namespace plume::PLUME_KERNELS
