// The passes of batch_norm's gradient, beside those of batch_norm_passes.h.
#pragma once
#include "kernels/batch_norm_passes.h"

namespace plume::PLUME_KERNELS {
namespace {

// What the gradient before the activation is made of. y is null where the slope comes from x, dy_more where
// one operation alone read the output.
template <class T>
struct GradientSource {
  const T *x, *y, *dy, *dy_more;
  const float *gamma, *beta, *mean, *inv_std;
  Activation activation;
  DropView drop;

  bool more() const { return y || dy_more || drop.state; }
};

// A thread's columns of it. What is known when this is compiled costs no branches: the activation, and that
// there is no more, neither y nor dy_more nor samples that are dropped.
template <class T, int kWidth>
struct GradientBefore {
  const GradientSource<T>& from;
  const Activation activation;
  const bool more;
  float scale[kWidth], mean[kWidth], beta[kWidth], inv_std[kWidth];

  __device__ __forceinline__ GradientBefore(const GradientSource<T>& source, Activation kind, bool more_,
                                            const Columns& all, int column)
      : from(source), activation(kind), more(more_) {
    load_channels(from.mean, all, column, mean);
    load_channels(from.gamma, all, column, scale);
    load_channels(from.inv_std, all, column, inv_std);
    load_channels(from.beta, all, column, beta);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) scale[i] *= inv_std[i];
  }
  // What dz is made of, on its way.
  using Vector = Pack<T, kWidth>;
  struct Words {
    typename Vector::Word x, dy, more, y;
  };
  __device__ __forceinline__ void fetch(int64_t at, Words& words) const {
    words.x = Vector::load(from.x + at).word();
    words.dy = Vector::load(from.dy + at).word();
    if (more && from.dy_more) words.more = Vector::load(from.dy_more + at).word();
    if (more && from.y) words.y = Vector::load(from.y + at).word();
  }
  // x less its mean, dy + dy_more, and dz of a sample with this scale.
  struct Values {
    float distance[kWidth], dy[kWidth], dz[kWidth];
  };
  __device__ __forceinline__ Values values(const Words& words, float kept) const {
    Values v;
    float output[kWidth] = {};
    Vector::widen(words.x, v.distance);
    Vector::widen(words.dy, v.dy);
    if (more && from.dy_more) {
      float second[kWidth];
      Vector::widen(words.more, second);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) v.dy[i] += second[i];
    }
    if (more && from.y) Vector::widen(words.y, output);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      v.distance[i] -= mean[i];
      const float z = v.distance[i] * scale[i] + beta[i];
      v.dz[i] = more ? v.dy[i] * kept : v.dy[i];
      if (activation == Activation::identity) continue;
      const float slope =
          more && from.y ? slope_from_output(activation, output[i]) : slope_from_input(activation, z);
      v.dz[i] = through_slope(v.dz[i], slope);
    }
    return v;
  }
};

// dbeta and dgamma of a channel: the sums of dz and dz * xhat.
struct GradientSums {
  float beta, gamma;
};
__device__ __forceinline__ GradientSums merge(const GradientSums& a, const GradientSums& b) {
  return {a.beta + b.beta, a.gamma + b.gamma};
}

// Those of the block's rows, of the columns of the threads with threadIdx.y = 0.
template <class T, int kWidth>
__device__ __forceinline__ void gradient_sums_of_block(const GradientSource<T>& source, Activation activation,
                                                       bool more, const Columns& all,
                                                       const RowWalk<kWidth>& walk,
                                                       GradientSums (&mine)[kWidth]) {
  float sums[2 * kWidth] = {};
  if (walk.channel < all.columns) {
    const GradientBefore<T, kWidth> gradient(source, activation, more, all, walk.channel);
    SampleScale samples(source.drop);
    typename GradientBefore<T, kWidth>::Words words[2]{};
    walk_rows<2>(
        walk, [&](int k, int64_t row) { gradient.fetch(row * all.columns + walk.channel, words[k]); },
        [&](int k, int64_t row) {
          const auto v = gradient.values(words[k], more ? samples.of_row(row) : 1.0f);
#pragma unroll
          for (int i = 0; i < kWidth; ++i) {
            sums[i] += v.dz[i];
            sums[kWidth + i] += v.dz[i] * v.distance[i];
          }
        });
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sums[kWidth + i] *= gradient.inv_std[i];
  }
  sum_over_rows_of_block(sums);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) mine[i] = {sums[i], sums[kWidth + i]};
}

struct StoreGradients {
  float *dbeta, *dgamma;
  __device__ void operator()(int c, const GradientSums& sums) const {
    dbeta[c] = sums.beta;
    dgamma[c] = sums.gamma;
  }
};

template <class T, int kWidth, int kActivation, bool kMore>
__global__ void __launch_bounds__(kTilingThreads, 1)
    gradient_sums(const GradientSource<T> source, const Columns all, int64_t rows_per_slice,
                  GradientSums* partial, unsigned* tickets, float* __restrict__ dbeta,
                  float* __restrict__ dgamma) {
  const RowWalk<kWidth> walk(all.rows, rows_per_slice);
  GradientSums mine[kWidth];
  gradient_sums_of_block(source, Activation(kActivation), kMore, all, walk, mine);
  merge_slices(mine, walk.channel, partial, all, SliceOfRows::of_block(), tickets,
               StoreGradients{dbeta, dgamma});
}

// dx = scale * dz - constant - linear * (x - mean), of a thread's columns. dbeta and dgamma are null when the
// statistics are fixed. They are sums over `rows` rows, or, unless null, over count[channel].
template <int kWidth>
struct ThroughStatistics {
  float constant[kWidth] = {}, linear[kWidth] = {};

  template <class T>
  __device__ __forceinline__ ThroughStatistics(const GradientBefore<T, kWidth>& gradient, const float* dbeta,
                                               const float* dgamma, const float* count, float rows,
                                               const Columns& all, int column) {
    if (!dbeta) return;
    float counts[kWidth];
    load_channels(dbeta, all, column, constant);
    load_channels(dgamma, all, column, linear);
    if (count) load_channels(count, all, column, counts);
    const float of_row = 1.0f / rows;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float share = gradient.scale[i] * (count ? 1.0f / counts[i] : of_row);
      constant[i] *= share;
      linear[i] *= share * gradient.inv_std[i];
    }
  }
};

// dbeta, dgamma, count and rows as ThroughStatistics has them.
template <class T, int kWidth, class Walk>
__device__ __forceinline__ void input_gradient_rows(const GradientSource<T>& source, Activation activation,
                                                    bool more, const float* dbeta, const float* dgamma,
                                                    const float* count, float rows, const Columns& all,
                                                    const Walk& walk, T* __restrict__ dx,
                                                    T* __restrict__ dresidual) {
  if (walk.channel >= all.columns) return;
  const GradientBefore<T, kWidth> gradient(source, activation, more, all, walk.channel);
  const ThroughStatistics<kWidth> through(gradient, dbeta, dgamma, count, rows, all, walk.channel);
  SampleScale samples(source.drop);
  typename GradientBefore<T, kWidth>::Words words[2]{};
  walk_rows<2>(
      walk,
      [&](int k, int64_t step) { gradient.fetch(row_of(walk, step) * all.columns + walk.channel, words[k]); },
      [&](int k, int64_t step) {
        const int64_t row = row_of(walk, step), at = row * all.columns + walk.channel;
        auto v = gradient.values(words[k], more ? samples.of_row(row) : 1.0f);
#pragma unroll
        for (int i = 0; i < kWidth; ++i)
          v.distance[i] =
              gradient.scale[i] * v.dz[i] - (through.constant[i] + through.linear[i] * v.distance[i]);
        Pack<T, kWidth>::narrow(v.distance).store(dx + at);
        if (!more || !dresidual) return;
        if (source.drop.state)
          Pack<T, kWidth>::narrow(v.dy).store(dresidual + at);
        else
          Pack<T, kWidth>::narrow(v.dz).store(dresidual + at);
      });
}

template <class T, int kWidth, int kActivation, bool kMore>
__global__ void __launch_bounds__(kTilingThreads, 1)
    input_gradient(const GradientSource<T> source, const float* __restrict__ dbeta,
                   const float* __restrict__ dgamma, const float* __restrict__ count, float rows,
                   const Columns all, T* __restrict__ dx, T* __restrict__ dresidual) {
  input_gradient_rows<T, kWidth>(source, Activation(kActivation), kMore, dbeta, dgamma, count, rows, all,
                                 FlatWalk<kWidth>(all), dx, dresidual);
}

template <class T>
GradientSource<T> gradient_source(const Tensor& x, const Tensor& y, const Tensor& dy, const Tensor& dy_more,
                                  const Tensor& gamma, const Tensor& beta, const Tensor& mean,
                                  const Tensor& inv_std, Activation activation, const DropView& drop = {}) {
  return {x.data<T>(),         data_or_null<T>(y),
          dy.data<T>(),        data_or_null<T>(dy_more),
          gamma.data<float>(), beta.data<float>(),
          mean.data<float>(),  inv_std.data<float>(),
          activation,          drop};
}

template <int kWidth, class T>
void launch_gradient_sums(Context& context, const GradientSource<T>& source, const Columns& all,
                          Tensor& dgamma, Tensor& dbeta) {
  const RowTiling tiling = reduction_tiling(all, kWidth);
  Tensor partial = partial_of(tiling, all, 2, dgamma.device());
  with_form<kWidth>(source.activation, source.more(), [&](auto kind, auto more) {
    simt::launch<gradient_sums<T, kWidth, kind(), more()>>(
        tiling.launch(context), source, all, tiling.rows_per_slice, static_cast<GradientSums*>(partial.raw()),
        tickets(), dbeta.data<float>(), dgamma.data<float>());
  });
}

// dbeta, dgamma, count: as ThroughStatistics has them, or undefined. `rows`: of one channel.
template <int kWidth, class T>
void launch_input_gradient(Context& context, const GradientSource<T>& source, const float* dbeta,
                           const float* dgamma, const float* count, int64_t rows, const Columns& all,
                           Tensor& dx, Tensor& dresidual) {
  with_form<kWidth>(source.activation, source.more() || dresidual.defined(), [&](auto kind, auto more) {
    simt::launch<input_gradient<T, kWidth, kind(), more()>>(
        FlatTiling(all, kWidth).launch(context), source, dbeta, dgamma, count, float(rows), all, dx.data<T>(),
        dresidual.defined() ? dresidual.data<T>() : nullptr);
  });
}

}  // namespace
// The whole gradient by the threads of one block, which have all rows of their channels: dbeta, dgamma, then
// dx (and dresidual, or null). `fixed`: the statistics were given, and dx does not pass through them.
template <class T, int kWidth>
__device__ __forceinline__ void gradient_of_block(const GradientSource<T>& source, bool fixed,
                                                  const Columns& all, const RowWalk<kWidth>& walk,
                                                  float* dbeta, float* dgamma, T* dx, T* dresidual) {
  GradientSums mine[kWidth];
  gradient_sums_of_block(source, source.activation, true, all, walk, mine);
  if (threadIdx.y == 0 && walk.channel < all.columns) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) StoreGradients{dbeta, dgamma}(walk.channel + i, mine[i]);
  }
  __syncthreads();
  input_gradient_rows<T, kWidth>(source, source.activation, true, fixed ? nullptr : dbeta,
                                 fixed ? nullptr : dgamma, nullptr, float(all.rows), all, walk, dx,
                                 dresidual);
}

}  // namespace plume::PLUME_KERNELS
