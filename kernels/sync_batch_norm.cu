// sync_batch_norm: batch_norm's passes with a break before each second one, in which ranks exchange what the
// first one found: [channels, 3] moments forward, [2, channels] sums backward. Threads, tiles, bytes and the
// bound (memory bandwidth) are those of batch_norm.cu. merge is a launch of one small block per 32 channels.
#include "engine/ops/sync_batch_norm.h"

#include "kernels/batch_norm_passes.h"

namespace plume::PLUME_KERNELS {
namespace {

template <class T>
__global__ void __launch_bounds__(kTilingThreads, 1)
    collect_moments(const Moments* __restrict__ partial, const T* __restrict__ origin, int slices,
                    int channels, Moments* __restrict__ moments) {
  const Moments all = merge_slices(partial, origin, slices, channels);
  const int c = int(blockIdx.x * blockDim.x + threadIdx.x);
  if (threadIdx.y == 0 && c < channels) moments[c] = all;
}

void run_statistics(Context& context, const Tensor& x, Tensor& moments) {
  if (x.size() == 0) return moments.fill_zero();
  with_tiling(x, [&](auto zero, auto width, const RowTiling& tiling) {
    using T = decltype(zero);
    const Tensor partial = launch_statistics<T, decltype(width)::value>(context, x, tiling);
    simt::launch<collect_moments<T>>(per_channel(context, x.dim(-1)),
                                     static_cast<const Moments*>(partial.raw()), x.data<T>(), tiling.slices(),
                                     int(x.dim(-1)), static_cast<Moments*>(moments.raw()));
  });
}

void run_merge(Context& context, const Tensor& moments, const BatchNormParams& params, Tensor& count,
               Tensor& mean, Tensor& var, Tensor& inv_std, Tensor& running_mean, Tensor& running_var) {
  if (count.size() == 0) return;
  const Statistics out{mean.data<float>(),        inv_std.data<float>(), running_mean.data<float>(),
                       running_var.data<float>(), var.data<float>(),     count.data<float>()};
  simt::launch<finish_statistics<float>>(per_channel(context, count.size()),
                                         static_cast<const Moments*>(moments.raw()),
                                         static_cast<const float*>(nullptr), int(moments.dim(0)),
                                         int(count.size()), params.eps, params.momentum, out);
}

void run_sync_batch_norm_backward_sums(Context& context, const Tensor& x, const Tensor& y, const Tensor& dy,
                                       const Tensor& gamma, const Tensor& beta, const Tensor& mean,
                                       const Tensor& inv_std, Activation activation, Tensor& dgamma,
                                       Tensor& dbeta) {
  if (x.size() == 0) {
    dgamma.fill_zero();
    dbeta.fill_zero();
    return;
  }
  with_tiling(x, [&](auto zero, auto width, const RowTiling& tiling) {
    using T = decltype(zero);
    const auto source = gradient_source<T>(x, y, dy, gamma, beta, mean, inv_std, activation);
    launch_gradient_sums<T, decltype(width)::value>(context, source, x.size() / x.dim(-1), x.dim(-1), tiling,
                                                    dgamma, dbeta);
  });
}

void run_sync_batch_norm_backward_input(Context& context, const Tensor& x, const Tensor& y, const Tensor& dy,
                                        const Tensor& gamma, const Tensor& beta, const Tensor& mean,
                                        const Tensor& inv_std, const Tensor& count, const Tensor& sums,
                                        Activation activation, Tensor& dx, Tensor& dresidual) {
  if (x.size() == 0) return;
  const int64_t channels = x.dim(-1);
  with_tiling(x, [&](auto zero, auto width, const RowTiling& tiling) {
    using T = decltype(zero);
    const auto source = gradient_source<T>(x, y, dy, gamma, beta, mean, inv_std, activation);
    simt::launch<input_gradient<T, decltype(width)::value>>(
        tiling.launch(context), source, sums.data<float>() + channels, sums.data<float>(),
        count.data<float>(), x.size() / channels, int(channels), tiling.rows_per_slice, dx.data<T>(),
        dresidual.defined() ? dresidual.data<T>() : nullptr);
  });
}

const bool sync_batch_norm_registered =
    sync_batch_norm_statistics.add(kThisDevice, {{"welford", always, run_statistics}}) &&
    sync_batch_norm_merge.add(kThisDevice, {{"chan", always, run_merge}}) &&
    sync_batch_norm_backward_sums.add(kThisDevice,
                                      {{"two_pass", always, run_sync_batch_norm_backward_sums}}) &&
    sync_batch_norm_backward_input.add(kThisDevice,
                                       {{"two_pass", always, run_sync_batch_norm_backward_input}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
