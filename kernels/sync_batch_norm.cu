// sync_batch_norm: batch_norm's passes with a break before each second one, in which ranks exchange what the
// first one found: [channels, 3] moments forward, [2, channels] sums backward. Threads, tiles, bytes and the
// bound (memory bandwidth) are those of batch_norm.cu. merge is a launch of a warp per 32 channels.
#include "engine/ops/sync_batch_norm.h"

#include "kernels/batch_norm_gradients.h"
#include "kernels/batch_norm_view.h"

namespace plume::PLUME_KERNELS {

void norm_gradient_sums(Context& context, const Tensor& x, const KnownNorm& norm, const Tensor& dy,
                        const Tensor& dy_more, Tensor& dgamma, Tensor& dbeta) {
  with_columns(x, true, [&](auto zero, auto width, const Columns& all) {
    const auto source = gradient_source<decltype(zero)>(x, Tensor(), dy, dy_more, norm.gamma, norm.beta,
                                                        norm.mean, norm.inv_std, norm.activation);
    launch_gradient_sums<width()>(context, source, all, dgamma, dbeta);
  });
}

void norm_input_gradient(Context& context, const Tensor& x, const KnownNorm& norm, const Tensor& dy,
                         const Tensor& dgamma, const Tensor& dbeta, Tensor& dx) {
  with_columns(x, true, [&](auto zero, auto width, const Columns& all) {
    const auto source = gradient_source<decltype(zero)>(x, Tensor(), dy, Tensor(), norm.gamma, norm.beta,
                                                        norm.mean, norm.inv_std, norm.activation);
    Tensor none;
    launch_input_gradient<width()>(context, source, dbeta.data<float>(), dgamma.data<float>(), nullptr,
                                   x.size() / x.dim(-1), all, dx, none);
  });
}

namespace {

// Count, mean and m2 of a channel, as ranks exchange them.
struct RankMoments {
  float count, mean, m2;
};
struct StoreMoments {
  RankMoments* to;
  __device__ void operator()(int c, const Moments& all) const {
    to[c] = {all.count, all.from + all.mean, all.m2};
  }
};

void run_statistics(Context& context, const Tensor& x, Tensor& moments) {
  if (x.size() == 0) return moments.fill_zero();
  launch_statistics(context, x, StoreMoments{static_cast<RankMoments*>(moments.raw())});
}

// 32 channels of all ranks' moments [ranks, channels], a thread each: there are few ranks.
__global__ void __launch_bounds__(32)
    merge_moments(const RankMoments* __restrict__ moments, int ranks, int channels, FinishStatistics finish) {
  const int c = int(blockIdx.x * blockDim.x + threadIdx.x);
  if (c >= channels) return;
  Moments all{};
  for (int rank = 0; rank < ranks; ++rank) {
    const RankMoments mine = moments[int64_t(rank) * channels + c];
    all = merge(all, {mine.count, 0.0f, mine.mean, mine.m2});
  }
  finish(c, all);
}

void run_merge(Context& context, const Tensor& moments, const BatchNormParams& params, Tensor& count,
               Tensor& mean, Tensor& var, Tensor& inv_std, Tensor& running_mean, Tensor& running_var) {
  if (count.size() == 0) return;
  Statistics out(mean, inv_std, running_mean, running_var);
  out.var = var.data<float>();
  out.count = count.data<float>();
  const simt::Launch launch{dim3(unsigned(ceil_div(count.size(), 32))), dim3(32), 0, stream_of(context)};
  simt::launch<merge_moments>(launch, static_cast<const RankMoments*>(moments.raw()), int(moments.dim(0)),
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
  with_columns(x, true, [&](auto zero, auto width, const Columns& all) {
    const auto source =
        gradient_source<decltype(zero)>(x, y, dy, Tensor(), gamma, beta, mean, inv_std, activation);
    launch_gradient_sums<width()>(context, source, all, dgamma, dbeta);
  });
}

void run_sync_batch_norm_backward_input(Context& context, const Tensor& x, const Tensor& y, const Tensor& dy,
                                        const Tensor& gamma, const Tensor& beta, const Tensor& mean,
                                        const Tensor& inv_std, const Tensor& count, const Tensor& sums,
                                        Activation activation, Tensor& dx, Tensor& dresidual) {
  if (x.size() == 0) return;
  const int64_t channels = x.dim(-1);
  with_columns(x, true, [&](auto zero, auto width, const Columns& all) {
    const auto source =
        gradient_source<decltype(zero)>(x, y, dy, Tensor(), gamma, beta, mean, inv_std, activation);
    launch_input_gradient<width()>(context, source, sums.data<float>() + channels, sums.data<float>(),
                                   count.data<float>(), x.size() / channels, all, dx, dresidual);
  });
}

const bool sync_batch_norm_registered =
    sync_batch_norm_statistics.add(kThisDevice, {{"moments", always, run_statistics}}) &&
    sync_batch_norm_merge.add(kThisDevice, {{"chan", always, run_merge}}) &&
    sync_batch_norm_backward_sums.add(kThisDevice,
                                      {{"two_pass", always, run_sync_batch_norm_backward_sums}}) &&
    sync_batch_norm_backward_input.add(kThisDevice,
                                       {{"two_pass", always, run_sync_batch_norm_backward_input}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
