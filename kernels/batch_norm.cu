// batch_norm: three passes over [rows, channels], tiled as in row_tiling.h: a thread keeps the numbers of its
// 16 bytes of channels in registers and walks down the rows.
//
// forward_train: (1) statistics: Welford's recurrence per thread (the division by the count is shared by the
// thread's channels), merged over a block and, in a small second launch, over blocks with Chan's formula;
// (2) normalise, add the residual, activate. The statistics are taken of x minus the channel's first value,
// so that a mean that is large beside the deviation costs no digits. backward: (1) sums of dz and dz * xhat,
// merged alike; (2) dx and the residual's gradient.
//
// Bytes: forward 3 values per element (read x twice, write y), 4 with a residual; backward 5 (x, dy twice,
// write dx), with relu y twice more, with a residual one more write. silu and hardswish do not keep
// their input: it is computed once more from x. About 10 FLOPs per element: the
// bound is memory bandwidth. No atomics: results repeat bit for bit.
//
// Sources: Welford 1962; Chan, Golub, LeVeque 1983.
#include "engine/ops/batch_norm.h"

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

template <class T, int kWidth>
__global__ void __launch_bounds__(kTilingThreads, 1)
    batch_statistics(const T* __restrict__ x, int64_t rows, int channels, int64_t rows_per_slice,
                     Moments* __restrict__ partial) {
  const RowWalk<kWidth> walk(rows, rows_per_slice);
  float count = 0.0f, mean[kWidth] = {}, m2[kWidth] = {};
  if (walk.channel < channels) {
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
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    const Moments merged = merge_over_rows_of_block({count, mean[i], m2[i]});
    if (threadIdx.y == 0 && walk.channel < channels)
      partial[int64_t(blockIdx.y) * channels + walk.channel + i] = merged;
  }
}

struct Statistics {
  float *mean, *inv_std, *running_mean, *running_var;
};

// 32 channels x 8 threads, which share the slices. `origin` is the first row of x.
template <class T>
__global__ void __launch_bounds__(kTilingThreads, 1)
    finish_statistics(const Moments* __restrict__ partial, const T* __restrict__ origin, int slices,
                      int channels, float eps, float momentum, Statistics out) {
  const int c = int(blockIdx.x * blockDim.x + threadIdx.x);
  Moments mine{0.0f, 0.0f, 0.0f};
  if (c < channels)
    for (int slice = int(threadIdx.y); slice < slices; slice += int(blockDim.y))
      mine = merge(mine, partial[int64_t(slice) * channels + c]);
  mine = merge_over_rows_of_block(mine);
  if (threadIdx.y != 0 || c >= channels) return;
  const float variance = mine.m2 / mine.count, unbiased = mine.m2 / fmaxf(mine.count - 1.0f, 1.0f);
  const float mean = float(origin[c]) + mine.mean;
  out.mean[c] = mean;
  out.inv_std[c] = 1.0f / sqrtf(variance + eps);
  out.running_mean[c] = (1.0f - momentum) * out.running_mean[c] + momentum * mean;
  out.running_var[c] = (1.0f - momentum) * out.running_var[c] + momentum * unbiased;
}

// The arrays [channels] that pass 2 reads. Evaluation brings var, training inv_std; the other is null.
struct Normalisation {
  const float *gamma, *beta, *mean, *inv_std, *var;
  float eps;
  Activation activation;
};

template <class T, int kWidth>
__global__ void __launch_bounds__(kTilingThreads, 1)
    normalise(const T* __restrict__ x, const T* __restrict__ residual, int64_t rows, int channels,
              int64_t rows_per_slice, Normalisation norm, T* __restrict__ y) {
  const RowWalk<kWidth> walk(rows, rows_per_slice);
  if (walk.channel >= channels) return;
  float mean[kWidth], scale[kWidth], beta[kWidth];
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    const int c = walk.channel + i;
    mean[i] = norm.mean[c];
    scale[i] = norm.gamma[c] * (norm.var ? 1.0f / sqrtf(norm.var[c] + norm.eps) : norm.inv_std[c]);
    beta[i] = norm.beta[c];
  }
  for (int64_t row = walk.first; row < walk.last; row += walk.step) {
    const int64_t at = row * channels + walk.channel;
    auto v = Pack<T, kWidth>::load(x + at);
    Pack<T, kWidth> extra = Pack<T, kWidth>::filled(T(0.0f));
    if (residual) extra = Pack<T, kWidth>::load(residual + at);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float z = (float(v[i]) - mean[i]) * scale[i] + beta[i] + float(extra[i]);
      v[i] = T(activate(norm.activation, z));
    }
    v.store(y + at);
  }
}

// What the gradient before the activation is made of. y is null where the slope does not come from it.
template <class T>
struct GradientSource {
  const T *x, *y, *dy;
  const float *gamma, *beta, *mean, *inv_std;
  Activation activation;
};

// A thread's channels of it.
template <class T, int kWidth>
struct GradientBefore {
  const GradientSource<T> from;
  float scale[kWidth], mean[kWidth], beta[kWidth];

  __device__ GradientBefore(const GradientSource<T>& source, int channel) : from(source) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      mean[i] = from.mean[channel + i];
      scale[i] = from.gamma[channel + i] * from.inv_std[channel + i];
      beta[i] = from.beta[channel + i];
    }
  }
  // dz, and the inputs that belong to it
  __device__ void load(int64_t at, float (&dz)[kWidth], Pack<T, kWidth>& x) const {
    x = Pack<T, kWidth>::load(from.x + at);
    const auto g = Pack<T, kWidth>::load(from.dy + at);
    Pack<T, kWidth> output = x;
    if (from.y) output = Pack<T, kWidth>::load(from.y + at);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float z = (float(x[i]) - mean[i]) * scale[i] + beta[i];
      dz[i] = through_slope(from.activation, float(g[i]), z, float(output[i]));
    }
  }
};

// partial [slices, 2, channels]: sums of dz, then of dz * xhat.
template <class T, int kWidth>
__global__ void __launch_bounds__(kTilingThreads, 1)
    gradient_sums(const GradientSource<T> source, int64_t rows, int channels, int64_t rows_per_slice,
                  float* __restrict__ partial) {
  const RowWalk<kWidth> walk(rows, rows_per_slice);
  float sums[2 * kWidth] = {};
  if (walk.channel < channels) {
    const GradientBefore<T, kWidth> gradient(source, walk.channel);
    for (int64_t row = walk.first; row < walk.last; row += walk.step) {
      float dz[kWidth];
      Pack<T, kWidth> v;
      gradient.load(row * channels + walk.channel, dz, v);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        sums[i] += dz[i];
        sums[kWidth + i] += dz[i] * (float(v[i]) - gradient.mean[i]);
      }
    }
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sums[kWidth + i] *= source.inv_std[walk.channel + i];
  }
  sum_over_rows_of_block(sums);
  if (threadIdx.y != 0 || walk.channel >= channels) return;
  float* out = partial + int64_t(blockIdx.y) * 2 * channels + walk.channel;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    out[i] = sums[i];
    out[channels + i] = sums[kWidth + i];
  }
}

__global__ void __launch_bounds__(kTilingThreads, 1)
    finish_gradient_sums(const float* __restrict__ partial, int slices, int channels,
                         float* __restrict__ dbeta, float* __restrict__ dgamma) {
  const int c = int(blockIdx.x * blockDim.x + threadIdx.x);
  float sums[2] = {};
  if (c < channels) {
    for (int slice = int(threadIdx.y); slice < slices; slice += int(blockDim.y)) {
      const float* from = partial + int64_t(slice) * 2 * channels + c;
      sums[0] += from[0];
      sums[1] += from[channels];
    }
  }
  sum_over_rows_of_block(sums);
  if (threadIdx.y != 0 || c >= channels) return;
  dbeta[c] = sums[0];
  dgamma[c] = sums[1];
}

// dbeta and dgamma are null when the statistics are fixed.
template <class T, int kWidth>
__global__ void __launch_bounds__(kTilingThreads, 1)
    input_gradient(const GradientSource<T> source, const float* __restrict__ dbeta,
                   const float* __restrict__ dgamma, int64_t rows, int channels, int64_t rows_per_slice,
                   T* __restrict__ dx, T* __restrict__ dresidual) {
  const RowWalk<kWidth> walk(rows, rows_per_slice);
  if (walk.channel >= channels) return;
  const GradientBefore<T, kWidth> gradient(source, walk.channel);
  // dx = scale * dz - constant - linear * (x - mean)
  float constant[kWidth], linear[kWidth];
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    const int c = walk.channel + i;
    constant[i] = dbeta ? gradient.scale[i] * dbeta[c] / float(rows) : 0.0f;
    linear[i] = dgamma ? gradient.scale[i] * dgamma[c] * source.inv_std[c] / float(rows) : 0.0f;
  }
  for (int64_t row = walk.first; row < walk.last; row += walk.step) {
    const int64_t at = row * channels + walk.channel;
    float dz[kWidth];
    Pack<T, kWidth> v;
    gradient.load(at, dz, v);
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      v[i] = T(gradient.scale[i] * dz[i] - (constant[i] + linear[i] * (float(v[i]) - gradient.mean[i])));
    v.store(dx + at);
    if (!dresidual) continue;
    Pack<T, kWidth> extra;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) extra[i] = T(dz[i]);
    extra.store(dresidual + at);
  }
}

simt::Launch per_channel(const Context& context, int64_t channels) {
  return {dim3(unsigned(ceil_div(channels, 32))), dim3(32, 8), 0, stream_of(context)};
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

void launch_normalise(Context& context, const Tensor& x, const Tensor& residual, const Normalisation& norm,
                      Tensor& y) {
  with_tiling(x, [&](auto zero, auto width, const RowTiling& tiling) {
    using T = decltype(zero);
    simt::launch<normalise<T, decltype(width)::value>>(
        tiling.launch(context), x.data<T>(), data_or_null<T>(residual), x.size() / x.dim(-1), int(x.dim(-1)),
        tiling.rows_per_slice, norm, y.data<T>());
  });
}

void run_forward_train(Context& context, const Tensor& x, const Tensor& gamma, const Tensor& beta,
                       const Tensor& residual, const BatchNormParams& params, Tensor& y, Tensor& mean,
                       Tensor& inv_std, Tensor& running_mean, Tensor& running_var) {
  if (x.size() == 0) return;
  const int64_t channels = x.dim(-1), rows = x.size() / channels;
  with_tiling(x, [&](auto zero, auto width, const RowTiling& tiling) {
    using T = decltype(zero);
    Tensor partial = Tensor::empty({tiling.slices(), channels, 3}, DType::f32, x.device(), "workspace");
    Moments* moments = static_cast<Moments*>(partial.raw());
    simt::launch<batch_statistics<T, decltype(width)::value>>(tiling.launch(context), x.data<T>(), rows,
                                                              int(channels), tiling.rows_per_slice, moments);
    const Statistics out{mean.data<float>(), inv_std.data<float>(), running_mean.data<float>(),
                         running_var.data<float>()};
    simt::launch<finish_statistics<T>>(per_channel(context, channels), moments, x.data<T>(), tiling.slices(),
                                       int(channels), params.eps, params.momentum, out);
  });
  launch_normalise(context, x, residual,
                   {gamma.data<float>(), beta.data<float>(), mean.data<float>(), inv_std.data<float>(),
                    nullptr, params.eps, params.activation},
                   y);
}

void run_forward_eval(Context& context, const Tensor& x, const Tensor& gamma, const Tensor& beta,
                      const Tensor& residual, const Tensor& mean, const Tensor& var,
                      const BatchNormParams& params, Tensor& y) {
  if (x.size() == 0) return;
  launch_normalise(context, x, residual,
                   {gamma.data<float>(), beta.data<float>(), mean.data<float>(), nullptr, var.data<float>(),
                    params.eps, params.activation},
                   y);
}

void run_backward(Context& context, const Tensor& x, const Tensor& y, const Tensor& dy, const Tensor& gamma,
                  const Tensor& beta, const Tensor& mean, const Tensor& inv_std,
                  const BatchNormBackwardParams& params, Tensor& dx, Tensor& dresidual, Tensor& dgamma,
                  Tensor& dbeta) {
  if (x.size() == 0) {
    dgamma.fill_zero();
    dbeta.fill_zero();
    return;
  }
  const int64_t channels = x.dim(-1), rows = x.size() / channels;
  with_tiling(x, [&](auto zero, auto width, const RowTiling& tiling) {
    using T = decltype(zero);
    constexpr int kWidth = decltype(width)::value;
    const GradientSource<T> source{x.data<T>(),           data_or_null<T>(y), dy.data<T>(),
                                   gamma.data<float>(),   beta.data<float>(), mean.data<float>(),
                                   inv_std.data<float>(), params.activation};
    Tensor partial = Tensor::empty({tiling.slices(), 2, channels}, DType::f32, x.device(), "workspace");
    simt::launch<gradient_sums<T, kWidth>>(tiling.launch(context), source, rows, int(channels),
                                           tiling.rows_per_slice, partial.data<float>());
    simt::launch<finish_gradient_sums>(per_channel(context, channels), partial.data<float>(), tiling.slices(),
                                       int(channels), dbeta.data<float>(), dgamma.data<float>());
    const bool fixed = params.fixed_statistics;
    simt::launch<input_gradient<T, kWidth>>(
        tiling.launch(context), source, fixed ? nullptr : dbeta.data<float>(),
        fixed ? nullptr : dgamma.data<float>(), rows, int(channels), tiling.rows_per_slice, dx.data<T>(),
        dresidual.defined() ? dresidual.data<T>() : nullptr);
  });
}

const bool registered = batch_norm_forward_train.add(kThisDevice, {{"welford", always, run_forward_train}}) &&
                        batch_norm_forward_eval.add(kThisDevice, {{"vector", always, run_forward_eval}}) &&
                        batch_norm_backward.add(kThisDevice, {{"two_pass", always, run_backward}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
