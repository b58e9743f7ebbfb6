// sync_batch_norm: batch_norm's passes with a break before each second one, in which ranks exchange what the
// first one found: [channels, 3] moments forward, [2, channels] sums backward. Threads, tiles, bytes and the
// bound (memory bandwidth) are those of batch_norm.cu. merge is a launch of one small block per 32 channels.
#include "engine/ops/sync_batch_norm.h"

#include "kernels/batch_norm_gradients.h"

namespace plume::PLUME_KERNELS {
namespace {

struct StoreMoments {
  Moments* to;
  __device__ void operator()(int c, const Moments& all) const { to[c] = all; }
};

void run_statistics(Context& context, const Tensor& x, Tensor& moments) {
  if (x.size() == 0) return moments.fill_zero();
  with_tiling(x, [&](auto zero, auto width, const RowTiling&) {
    launch_statistics<decltype(zero), decltype(width)::value>(
        context, x, StoreMoments{static_cast<Moments*>(moments.raw())});
  });
}

// 32 channels of all ranks' moments [ranks, channels] by 8 threads each.
__global__ void __launch_bounds__(kTilingThreads, 1)
    merge_moments(const Moments* __restrict__ moments, int ranks, int channels, FinishStatistics finish) {
  const int c = int(blockIdx.x * blockDim.x + threadIdx.x);
  Moments mine{0.0f, 0.0f, 0.0f};
  if (c < channels)
    for (int rank = int(threadIdx.y); rank < ranks; rank += int(blockDim.y))
      mine = merge(mine, moments[int64_t(rank) * channels + c]);
  mine = merge_over_rows_of_block(mine);
  if (threadIdx.y == 0 && c < channels) finish(c, mine);
}

void run_merge(Context& context, const Tensor& moments, const BatchNormParams& params, Tensor& count,
               Tensor& mean, Tensor& var, Tensor& inv_std, Tensor& running_mean, Tensor& running_var) {
  if (count.size() == 0) return;
  const Statistics out{mean.data<float>(),        inv_std.data<float>(), running_mean.data<float>(),
                       running_var.data<float>(), var.data<float>(),     count.data<float>()};
  const simt::Launch launch{dim3(unsigned(ceil_div(count.size(), 32))), dim3(32, 8), 0, stream_of(context)};
  simt::launch<merge_moments>(launch, static_cast<const Moments*>(moments.raw()), int(moments.dim(0)),
                              int(count.size()), FinishStatistics{params.eps, params.momentum, out});
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
  with_tiling(x, [&](auto zero, auto width, const RowTiling&) {
    using T = decltype(zero);
    const auto source = gradient_source<T>(x, y, dy, Tensor(), gamma, beta, mean, inv_std, activation);
    launch_gradient_sums<T, decltype(width)::value>(context, source, x.size() / x.dim(-1), x.dim(-1), dgamma,
                                                    dbeta);
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
    const auto source = gradient_source<T>(x, y, dy, Tensor(), gamma, beta, mean, inv_std, activation);
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
