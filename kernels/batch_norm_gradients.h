// The passes of batch_norm's gradient, beside those of batch_norm_passes.h.
#pragma once
#include "kernels/batch_norm_passes.h"

namespace plume::PLUME_KERNELS {
namespace {

// What the gradient before the activation is made of. y is null where the slope does not come from it,
// dy_more where one operation alone read the output.
template <class T>
struct GradientSource {
  const T *x, *y, *dy, *dy_more;
  const float *gamma, *beta, *mean, *inv_std;
  Activation activation;
  DropView drop;
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
  // dy + dy_more
  __device__ void joined(int64_t at, float (&sum)[kWidth]) const {
    const auto g = Pack<T, kWidth>::load(from.dy + at);
    Pack<T, kWidth> more = Pack<T, kWidth>::filled(T(0.0f));
    if (from.dy_more) more = Pack<T, kWidth>::load(from.dy_more + at);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sum[i] = float(g[i]) + float(more[i]);
  }
  // dz of a sample with this scale, and the inputs that belong to it
  __device__ void load(int64_t at, float kept, float (&dz)[kWidth], Pack<T, kWidth>& x) const {
    x = Pack<T, kWidth>::load(from.x + at);
    const auto g = Pack<T, kWidth>::load(from.dy + at);
    Pack<T, kWidth> output = x, more = Pack<T, kWidth>::filled(T(0.0f));
    if (from.dy_more) more = Pack<T, kWidth>::load(from.dy_more + at);
    if (from.y) output = Pack<T, kWidth>::load(from.y + at);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float z = (float(x[i]) - mean[i]) * scale[i] + beta[i];
      dz[i] = through_slope(from.activation, (float(g[i]) + float(more[i])) * kept, z, float(output[i]));
    }
  }
};

// Over the thread's rows: the sums of dz, then of dz * xhat.
template <class T, int kWidth>
__device__ __forceinline__ void walk_gradient_sums(const GradientSource<T>& source, int channels,
                                                   const RowWalk<kWidth>& walk, float (&sums)[2 * kWidth]) {
  if (walk.channel >= channels) return;
  const GradientBefore<T, kWidth> gradient(source, walk.channel);
  SampleScale samples(source.drop);
  for (int64_t row = walk.first; row < walk.last; row += walk.step) {
    float dz[kWidth];
    Pack<T, kWidth> v;
    gradient.load(row * channels + walk.channel, samples.of_row(row), dz, v);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      sums[i] += dz[i];
      sums[kWidth + i] += dz[i] * (float(v[i]) - gradient.mean[i]);
    }
  }
#pragma unroll
  for (int i = 0; i < kWidth; ++i) sums[kWidth + i] *= source.inv_std[walk.channel + i];
}

// dbeta: sums of dz, dgamma: of dz * xhat; partial [slices, 2, channels] of both.
template <class T, int kWidth>
__global__ void __launch_bounds__(kTilingThreads, 1)
    gradient_sums(const GradientSource<T> source, int64_t rows, int channels, int64_t rows_per_slice,
                  float* partial, unsigned* tickets, float* __restrict__ dbeta, float* __restrict__ dgamma) {
  const RowWalk<kWidth> walk(rows, rows_per_slice);
  float sums[2 * kWidth] = {};
  walk_gradient_sums(source, channels, walk, sums);
  sum_over_rows_of_block(sums);
  if (threadIdx.y == 0 && walk.channel < channels) {
    float* out = partial + int64_t(blockIdx.y) * 2 * channels + walk.channel;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      out[i] = sums[i];
      out[channels + i] = sums[kWidth + i];
    }
  }
  if (!is_last_block(tickets + blockIdx.x, gridDim.y)) return;
  const TileShare share(kWidth);
  float beta = 0.0f, gamma = 0.0f;
  if (share.channel < channels) {
#pragma unroll 4
    for (int slice = share.first_slice; slice < int(gridDim.y); slice += share.step) {
      const float* from = partial + int64_t(slice) * 2 * channels + share.channel;
      beta += from[0];
      gamma += from[channels];
    }
  }
  SMEM(adding, float[2][kTilingThreads]);
  const int tile = kTilingThreads / share.step, thread = share.first_slice * tile + share.place;
  adding[0][thread] = beta;
  adding[1][thread] = gamma;
  for (int half = share.step / 2; half > 0; half /= 2) {
    __syncthreads();
    if (share.first_slice < half) {
      adding[0][thread] = beta += adding[0][thread + half * tile];
      adding[1][thread] = gamma += adding[1][thread + half * tile];
    }
  }
  if (share.first_slice != 0 || share.channel >= channels) return;
  dbeta[share.channel] = beta;
  dgamma[share.channel] = gamma;
}

// dbeta and dgamma are null when the statistics are fixed. They are sums over `rows` rows, or, unless null,
// over count[channel].
template <class T, int kWidth>
__device__ __forceinline__ void input_gradient_rows(const GradientSource<T>& source, const float* dbeta,
                                                    const float* dgamma, const float* count, int64_t rows,
                                                    int channels, const RowWalk<kWidth>& walk,
                                                    T* __restrict__ dx, T* __restrict__ dresidual) {
  if (walk.channel >= channels) return;
  const GradientBefore<T, kWidth> gradient(source, walk.channel);
  // dx = scale * dz - constant - linear * (x - mean)
  float constant[kWidth], linear[kWidth];
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    const int c = walk.channel + i;
    const float all = count ? count[c] : float(rows);
    constant[i] = dbeta ? gradient.scale[i] * dbeta[c] / all : 0.0f;
    linear[i] = dgamma ? gradient.scale[i] * dgamma[c] * source.inv_std[c] / all : 0.0f;
  }
  SampleScale samples(source.drop);
  for (int64_t row = walk.first; row < walk.last; row += walk.step) {
    const int64_t at = row * channels + walk.channel;
    float dz[kWidth];
    Pack<T, kWidth> v;
    gradient.load(at, samples.of_row(row), dz, v);
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      v[i] = T(gradient.scale[i] * dz[i] - (constant[i] + linear[i] * (float(v[i]) - gradient.mean[i])));
    v.store(dx + at);
    if (!dresidual) continue;
    Pack<T, kWidth> extra;
    if (source.drop.state) gradient.joined(at, dz);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) extra[i] = T(dz[i]);
    extra.store(dresidual + at);
  }
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kTilingThreads, 1)
    input_gradient(const GradientSource<T> source, const float* __restrict__ dbeta,
                   const float* __restrict__ dgamma, const float* __restrict__ count, int64_t rows,
                   int channels, int64_t rows_per_slice, T* __restrict__ dx, T* __restrict__ dresidual) {
  input_gradient_rows(source, dbeta, dgamma, count, rows, channels, RowWalk<kWidth>(rows, rows_per_slice), dx,
                      dresidual);
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

template <class T, int kWidth>
void launch_gradient_sums(Context& context, const GradientSource<T>& source, int64_t rows, int64_t channels,
                          Tensor& dgamma, Tensor& dbeta) {
  const RowTiling tiling = reduction_tiling(rows, channels / kWidth);
  Tensor partial = Tensor::empty({tiling.slices(), 2, channels}, DType::f32, dgamma.device(), "workspace");
  simt::launch<gradient_sums<T, kWidth>>(tiling.launch(context), source, rows, int(channels),
                                         tiling.rows_per_slice, partial.data<float>(), tickets(),
                                         dbeta.data<float>(), dgamma.data<float>());
}

}  // namespace
}  // namespace plume::PLUME_KERNELS
