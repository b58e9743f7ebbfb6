// conv_batch_norm of a depthwise convolution of few pixels, "one_block": a block has a tile of channels and
// all pixels, convolves them, and goes on as batch_norm_small.cu does. A thread makes 16 bytes of channels of
// every step-th pixel.
//
// Bytes: x, z and y once, and what taps share from the cache. Tiles are 32 bytes wide, so that there are a
// few dozen blocks: R S multiply-adds for a value take one multiprocessor as long as a launch (3x3 and 256
// pixels: two pixels a thread).
#include "engine/ops/conv_batch_norm.h"
#include "kernels/batch_norm_passes.h"
#include "kernels/depthwise_sizes.h"

namespace plume::PLUME_KERNELS {
namespace {

constexpr int64_t kMostDepthwiseRows = 256;
constexpr unsigned kDepthwiseNormLanes = 2;

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

void run_depthwise_batch_norm(Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& conv,
                              const Tensor& gamma, const Tensor& beta, const Tensor& residual,
                              const BatchNormParams& params, const SampleDrop& drop, Tensor& z, Tensor& y,
                              Tensor& mean, Tensor& inv_std, Tensor& running_mean, Tensor& running_var) {
  const Statistics out(mean, inv_std, running_mean, running_var);
  const Normalisation norm{gamma.data<float>(), beta.data<float>(), out.mean, out.inv_std, nullptr,
                           params.eps,          DropView(drop, z)};
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    constexpr int kWidth = kVectorWidth<T>;
    const Columns all(z);
    simt::launch<depthwise_batch_norm_whole<T, kWidth>>(
        RowTiling(all.rows, all.columns / kWidth, kDepthwiseNormLanes, 1).launch(context), x.data<T>(),
        w.data<T>(), DepthwiseSizes(x, w, z, conv), data_or_null<T>(residual), all,
        FinishStatistics{params.eps, params.momentum, out}, norm, params.activation, z.data<T>(),
        y.data<T>());
  });
}

// Whoever forces a variant of one of the two wants to see it run.
bool fits_depthwise_batch_norm(const Context& context, const Tensor& x, const Tensor& w,
                               const Conv2dParams& conv, const Tensor&, const Tensor&, const Tensor&,
                               const BatchNormParams&, const SampleDrop&, Tensor&, Tensor&, Tensor&, Tensor&,
                               Tensor&, Tensor&) {
  if (w.rank() != 3) return false;
  const Shape z = depthwise_conv2d_shape(x.shape(), w.shape(), conv);
  const int64_t rows = z[0] * z[1] * z[2], pack = 16 / int64_t(size_of(x.dtype()));
  return rows > 0 && rows <= kMostDepthwiseRows && z[3] > 0 && z[3] % pack == 0 && x.size() > 0 &&
         !depthwise_conv2d_forward.forced(context.device()) &&
         !batch_norm_forward_train.forced(context.device());
}

const bool depthwise_batch_norm_registered = conv_batch_norm_forward.add(
    kThisDevice, {{"one_block", fits_depthwise_batch_norm, run_depthwise_batch_norm}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
