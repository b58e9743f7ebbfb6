// conv_batch_norm of a depthwise convolution of few pixels, "one_block": a block has a tile of channels and
// all pixels, convolves them, and goes on as batch_norm_small.cu does. A thread makes a pack of channels of
// every step-th pixel: 16 bytes, or 4 or 2 values as ShuffleNetV2's 116 and 58 channels need.
//
// Bytes: x, z and y once, and what taps share from the cache. Tiles are 32 bytes wide, so that there are a
// few dozen blocks: R S multiply-adds for a value take one multiprocessor as long as a launch (3x3 and 256
// pixels: two pixels a thread).
//
// Backward likewise: the norm's gradient, then the gradients of x and of the filter, in one launch instead of
// three. A thread makes a pack of channels of every step-th pixel of dx; for the filter all threads share out
// taps and pixels, and their sums are added in order.
#include "engine/ops/conv_batch_norm.h"
#include "kernels/batch_norm_gradients.h"
#include "kernels/depthwise_sizes.h"

namespace plume::PLUME_KERNELS {
namespace {

constexpr int64_t kMostDepthwiseRows = 256;

template <class T, int kWidth>
__global__ void __launch_bounds__(kTilingThreads, 1)
    depthwise_batch_norm_whole(const T* __restrict__ x, const T* __restrict__ w, const DepthwiseSizes s,
                               const T* __restrict__ residual, const Columns all, FinishStatistics finish,
                               Normalisation norm, Activation activation, T* z, T* __restrict__ y) {
  const RowWalk<kWidth> walk(all.rows, all.rows);
  for (int64_t row = walk.first; walk.channel < all.columns && row < walk.last; row += walk.step) {
    const Pixel out(row, s.out_height, s.out_width);
    float sums[kWidth] = {};
    for (int r = 0; r < s.filter_height; ++r) {
      for (int t = 0; t < s.filter_width; ++t) {
        const int h = out.h * s.stride - s.padding + r * s.dilation;
        const int v = out.w * s.stride - s.padding + t * s.dilation;
        if (!s.inside(h, v)) continue;
        const int64_t pixel = (int64_t(out.n) * s.height + h) * s.width + v;
        const auto values = Pack<T, kWidth>::load(x + pixel * s.channels + walk.channel);
        const auto taps = Pack<T, kWidth>::load(w + (r * s.filter_width + t) * s.channels + walk.channel);
#pragma unroll
        for (int i = 0; i < kWidth; ++i) sums[i] += float(values[i]) * float(taps[i]);
      }
    }
    Pack<T, kWidth> result;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) result[i] = T(sums[i]);
    result.store(z + row * all.columns + walk.channel);
  }
  __syncthreads();  // z is complete
  norm_of_block(z, residual, all, walk, finish, norm, activation, y);
}

// f(pack width) for channels of whole packs.
template <class T, class F>
void with_whole_packs(int channels, F&& f) {
  if constexpr (kVectorWidth < T >> 4) {
    if (channels % kVectorWidth<T> == 0) return f(std::integral_constant<int, kVectorWidth<T>>{});
  }
  if (channels % 4 == 0) return f(std::integral_constant<int, 4>{});
  f(std::integral_constant<int, 2>{});
}

template <class T, int kWidth>
simt::Launch tiles_of_few_pixels(const Context& context, const Columns& all) {
  constexpr unsigned kTileBytes = 32;
  return RowTiling(all.rows, all.columns / kWidth, kTileBytes / (kWidth * sizeof(T)), 1).launch(context);
}

void run_depthwise_batch_norm(Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& conv,
                              const Tensor& gamma, const Tensor& beta, const Tensor& residual,
                              const BatchNormParams& params, const SampleDrop& drop, Tensor& z, Tensor& y,
                              Tensor& mean, Tensor& inv_std, Tensor& running_mean, Tensor& running_var) {
  const Statistics out(mean, inv_std, running_mean, running_var);
  const Normalisation norm{gamma.data<float>(), beta.data<float>(), out.mean, out.inv_std, nullptr,
                           params.eps,          DropView(drop, z)};
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Columns all(z);
    with_whole_packs<T>(all.columns, [&](auto width) {
      constexpr int kWidth = width();
      simt::launch<depthwise_batch_norm_whole<T, kWidth>>(
          tiles_of_few_pixels<T, kWidth>(context, all), x.data<T>(), w.data<T>(),
          DepthwiseSizes(x, w, z, conv), data_or_null<T>(residual), all,
          FinishStatistics{params.eps, params.momentum, out}, norm, params.activation, z.data<T>(),
          y.data<T>());
    });
  });
}

// dx[h, v] of a pack of channels: dz of the pixels whose taps reach it.
template <class T, int kWidth>
__device__ __forceinline__ Pack<T, kWidth> depthwise_input_gradient(const T* dz, const T* __restrict__ w,
                                                                    const DepthwiseSizes& s, const Pixel& in,
                                                                    int channel) {
  float sums[kWidth] = {};
  for (int r = 0; r < s.filter_height; ++r) {
    for (int t = 0; t < s.filter_width; ++t) {
      const int down = in.h + s.padding - r * s.dilation, right = in.w + s.padding - t * s.dilation;
      const int p = down / s.stride, q = right / s.stride;
      if (down < 0 || right < 0 || p * s.stride != down || q * s.stride != right || p >= s.out_height ||
          q >= s.out_width)
        continue;
      const int64_t pixel = (int64_t(in.n) * s.out_height + p) * s.out_width + q;
      const auto values = Pack<T, kWidth>::load(dz + pixel * s.channels + channel);
      const auto taps = Pack<T, kWidth>::load(w + (r * s.filter_width + t) * s.channels + channel);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) sums[i] += float(values[i]) * float(taps[i]);
    }
  }
  Pack<T, kWidth> result;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) result[i] = T(sums[i]);
  return result;
}

// dw of the block's channels. Threads with equal threadIdx.x have the same ones; a few of them share a tap,
// and each takes some of its pixels.
template <class T, int kWidth>
__device__ __forceinline__ void depthwise_filter_gradient(const T* __restrict__ x, const T* dz,
                                                          const DepthwiseSizes& s, int64_t rows, int channel,
                                                          float* __restrict__ dw) {
  SMEM(parts, float[kWidth][kTilingThreads]);
  const int taps = s.filter_height * s.filter_width, sharers = int(blockDim.y) / taps;
  const int tap = int(threadIdx.y) / sharers, part = int(threadIdx.y) - tap * sharers;
  const int r = tap / s.filter_width, t = tap - r * s.filter_width;
  float sums[kWidth] = {};
  if (tap < taps && channel < s.channels) {
    for (int64_t row = part; row < rows; row += sharers) {
      const Pixel out(row, s.out_height, s.out_width);
      const int h = out.h * s.stride - s.padding + r * s.dilation;
      const int v = out.w * s.stride - s.padding + t * s.dilation;
      if (!s.inside(h, v)) continue;
      const int64_t pixel = (int64_t(out.n) * s.height + h) * s.width + v;
      const auto values = Pack<T, kWidth>::load(x + pixel * s.channels + channel);
      const auto slopes = Pack<T, kWidth>::load(dz + row * s.channels + channel);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) sums[i] += float(values[i]) * float(slopes[i]);
    }
  }
  const int lanes = int(blockDim.x), thread = int(threadIdx.y) * lanes + int(threadIdx.x);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) parts[i][thread] = sums[i];
  __syncthreads();
  for (int place = thread; place < taps * lanes * kWidth; place += kTilingThreads) {
    const int column = place % (lanes * kWidth), of_tap = place / (lanes * kWidth);
    const int to = int(blockIdx.x) * lanes * kWidth + column;
    if (to >= s.channels) continue;
    float sum = 0.0f;
    for (int i = 0; i < sharers; ++i)
      sum += parts[column % kWidth][(of_tap * sharers + i) * lanes + column / kWidth];
    dw[of_tap * s.channels + to] = sum;
  }
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kTilingThreads, 1)
    depthwise_batch_norm_whole_backward(const GradientSource<T> source, const Columns all,
                                        const T* __restrict__ x, const T* __restrict__ w,
                                        const DepthwiseSizes s, int64_t pixels, float* dbeta, float* dgamma,
                                        T* dz, T* __restrict__ dx, float* __restrict__ dw) {
  const RowWalk<kWidth> walk(all.rows, all.rows);
  gradient_of_block(source, false, all, walk, dbeta, dgamma, dz, static_cast<T*>(nullptr));
  __syncthreads();  // dz is complete
  for (int64_t pixel = threadIdx.y; walk.channel < all.columns && pixel < pixels; pixel += walk.step)
    depthwise_input_gradient<T, kWidth>(dz, w, s, Pixel(pixel, s.height, s.width), walk.channel)
        .store(dx + pixel * s.channels + walk.channel);
  depthwise_filter_gradient<T, kWidth>(x, dz, s, all.rows, walk.channel, dw);
}

void run_depthwise_batch_norm_backward(Context& context, const Tensor& x, const Tensor& w,
                                       const Conv2dParams& conv, const Tensor& z, const Tensor& dy,
                                       const Tensor& dy_more, const Tensor& gamma, const Tensor& beta,
                                       const Tensor& mean, const Tensor& inv_std,
                                       const Activation& activation, Tensor& dx, Tensor& dw, Tensor& dgamma,
                                       Tensor& dbeta) {
  Tensor dz = empty_like(z);
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Columns all(z);
    const auto source = gradient_source<T>(z, Tensor(), dy, dy_more, gamma, beta, mean, inv_std, activation);
    with_whole_packs<T>(all.columns, [&](auto width) {
      constexpr int kWidth = width();
      simt::launch<depthwise_batch_norm_whole_backward<T, kWidth>>(
          tiles_of_few_pixels<T, kWidth>(context, all), source, all, x.data<T>(), w.data<T>(),
          DepthwiseSizes(x, w, z, conv), x.size() / x.dim(3), dbeta.data<float>(), dgamma.data<float>(),
          dz.data<T>(), dx.data<T>(), dw.data<float>());
    });
  });
}

// Whoever forces a variant of one of the two wants to see it run.
bool fits_depthwise_batch_norm(const Context& context, const Tensor& x, const Tensor& w,
                               const Conv2dParams& conv, const Tensor&, const Tensor&, const Tensor&,
                               const BatchNormParams&, const SampleDrop&, Tensor&, Tensor&, Tensor&, Tensor&,
                               Tensor&, Tensor&) {
  if (w.rank() != 3) return false;
  const Shape z = depthwise_conv2d_shape(x.shape(), w.shape(), conv);
  const int64_t rows = z[0] * z[1] * z[2];
  return rows > 0 && rows <= kMostDepthwiseRows && z[3] % 2 == 0 && x.size() > 0 &&
         !depthwise_conv2d_forward.forced(context.device()) &&
         !batch_norm_forward_train.forced(context.device());
}

// A block has at least one thread for each tap.
bool fits_depthwise_batch_norm_backward(const Context& context, const Tensor& x, const Tensor& w,
                                        const Conv2dParams&, const Tensor& z, const Tensor&, const Tensor&,
                                        const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                                        const Activation&, Tensor&, Tensor& dw, Tensor&, Tensor&) {
  constexpr int64_t kMostInputs = 4 * kMostDepthwiseRows, kMostDepthwiseTaps = 25;
  if (w.rank() != 3 || x.size() == 0 || z.size() == 0) return false;
  return z.size() / z.dim(3) <= kMostDepthwiseRows && x.size() / x.dim(3) <= kMostInputs &&
         x.dim(3) % 2 == 0 && w.dim(0) * w.dim(1) <= kMostDepthwiseTaps && dw.dtype() == DType::f32 &&
         !depthwise_conv2d_backward_input.forced(context.device()) &&
         !depthwise_conv2d_backward_weight.forced(context.device()) &&
         !batch_norm_backward.forced(context.device());
}

const bool depthwise_batch_norm_registered =
    conv_batch_norm_forward.add(kThisDevice,
                                {{"one_block", fits_depthwise_batch_norm, run_depthwise_batch_norm}}) &&
    conv_batch_norm_backward.add(
        kThisDevice, {{"one_block", fits_depthwise_batch_norm_backward, run_depthwise_batch_norm_backward}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
