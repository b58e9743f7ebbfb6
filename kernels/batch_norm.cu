// batch_norm: passes over [rows, channels] in which a thread keeps the numbers of its 16 bytes of channels in
// registers and walks down the rows. Where channels are no multiple of those, as 58 and 116, a few rows are
// taken for one.
//
// forward_train: (1) statistics: sums of x and x^2, of x minus the mean of the block's first rows, so that a
// mean that is large beside the deviation costs no digits; merged over blocks by the last one with Chan's
// formula; (2) normalise, add the residual, activate. backward: (1) sums of dz and dz * xhat, merged alike;
// (2) dx and the residual's gradient. Both are one launch, "channel_groups", in which groups of channels take
// turns (batch_norm_groups.h): blocks sum a group, each a tile of 128 bytes of channels and a slice of rows;
// as many others apply the sums to the same rows while the next group is summed. The last block to leave sums
// of a tile merges them and sets a flag, for which those others wait (common/block_order.h: why that ends).
//
// Bytes: forward x once and y, with a residual once more; backward x, dy and dx, with a second dy or a y that
// came before relu those, with a residual one more write; as far as a group and what is touched beside it fit
// into the L2. 50000 rows (14x14, 256 images) are 6.4 MB for 64 channels of 16 bits. Where 128 bytes are too
// wide half of these are tried; less would not use memory's bursts of 64 bytes. Of larger planes only what
// was summed last, and is applied first, is found again: all but some 20 MB is read twice. About 10 FLOPs per
// element: the bound is memory bandwidth. Which block is the last makes no difference: results repeat bit for
// bit.
//
// Source: Chan, Golub, LeVeque 1983.
#include "kernels/batch_norm_groups.h"

namespace plume::PLUME_KERNELS {
namespace {

void launch_normalise(Context& context, const Tensor& x, const Tensor& residual, const Normalisation& norm,
                      Activation activation, const SampleDrop& drop, Tensor& y) {
  with_columns(x, drop, [&](auto zero, auto width, const Columns& all) {
    using T = decltype(zero);
    with_form<width()>(activation, residual.defined(), [&](auto kind, auto more) {
      simt::launch<normalise<T, width(), kind(), more()>>(FlatTiling(all, width()).launch(context),
                                                          x.data<T>(), data_or_null<T>(residual), all, norm,
                                                          y.data<T>());
    });
  });
}

void run_batch_norm_forward_train(Context& context, const Tensor& x, const Tensor& gamma, const Tensor& beta,
                                  const Tensor& residual, const BatchNormParams& params,
                                  const SampleDrop& drop, Tensor& y, Tensor& mean, Tensor& inv_std,
                                  Tensor& running_mean, Tensor& running_var) {
  if (x.size() == 0) return;
  const Statistics out(mean, inv_std, running_mean, running_var);
  const Normalisation norm{gamma.data<float>(), beta.data<float>(), out.mean, out.inv_std, nullptr,
                           params.eps,          DropView(drop, x)};
  with_groups(x, drop, [&](auto zero, auto width, const Columns& all) {
    using T = decltype(zero);
    const GroupPlan plan(all, width(), {1, 1 + residual.defined(), sizeof(T)});
    Tensor partial = partial_of(plan.tiling, all, 4, x.device());
    with_form<width()>(params.activation, residual.defined(), [&](auto kind, auto more) {
      simt::declare_reuse(plan.reuse);
      simt::launch<batch_norm_in_groups<T, width(), kind(), more()>>(
          plan.launch(context), x.data<T>(), data_or_null<T>(residual), all, plan.order,
          plan.tiling.rows_per_slice, static_cast<Moments*>(partial.raw()), GroupCounters{tickets()},
          FinishStatistics{params.eps, params.momentum, out}, norm, y.data<T>());
    });
  });
}

void run_normalise(Context& context, const Tensor& x, const KnownNorm& norm, Tensor& y) {
  if (x.size() == 0) return;
  launch_normalise(context, x, {},
                   {norm.gamma.data<float>(), norm.beta.data<float>(), norm.mean.data<float>(),
                    norm.inv_std.data<float>(), nullptr, 0.0f, DropView()},
                   norm.activation, {}, y);
}

void run_batch_norm_forward_eval(Context& context, const Tensor& x, const Tensor& gamma, const Tensor& beta,
                                 const Tensor& residual, const Tensor& mean, const Tensor& var,
                                 const BatchNormParams& params, Tensor& y) {
  if (x.size() == 0) return;
  launch_normalise(context, x, residual,
                   {gamma.data<float>(), beta.data<float>(), mean.data<float>(), nullptr, var.data<float>(),
                    params.eps, DropView()},
                   params.activation, {}, y);
}

void run_batch_norm_backward(Context& context, const Tensor& x, const Tensor& y, const Tensor& dy,
                             const Tensor& dy_more, const Tensor& gamma, const Tensor& beta,
                             const Tensor& mean, const Tensor& inv_std, const BatchNormBackwardParams& params,
                             const SampleDrop& drop, Tensor& dx, Tensor& dresidual, Tensor& dgamma,
                             Tensor& dbeta) {
  if (x.size() == 0) {
    dgamma.fill_zero();
    dbeta.fill_zero();
    return;
  }
  with_groups(x, drop, [&](auto zero, auto width, const Columns& all) {
    using T = decltype(zero);
    const auto source = gradient_source<T>(x, y, dy, dy_more, gamma, beta, mean, inv_std, params.activation,
                                           DropView(drop, x));
    const GroupPlan plan(all, width(),
                         {2 + y.defined() + dy_more.defined(), 1 + dresidual.defined(), sizeof(T)});
    Tensor partial = partial_of(plan.tiling, all, 2, x.device());
    const bool more_than_one = source.more() || dresidual.defined();
    with_form<width()>(params.activation, more_than_one, [&](auto kind, auto more) {
      simt::declare_reuse(plan.reuse);
      simt::launch<batch_norm_gradient_in_groups<T, width(), kind(), more()>>(
          plan.launch(context), source, params.fixed_statistics, all, plan.order, plan.tiling.rows_per_slice,
          static_cast<GradientSums*>(partial.raw()), GroupCounters{tickets()}, dbeta.data<float>(),
          dgamma.data<float>(), float(x.size() / x.dim(-1)), dx.data<T>(),
          dresidual.defined() ? dresidual.data<T>() : nullptr);
    });
  });
}

__global__ void __launch_bounds__(256)
    inv_std_of(const float* __restrict__ var, float eps, int64_t channels, float* __restrict__ inv_std) {
  const int64_t c = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (c < channels) inv_std[c] = 1.0f / sqrtf(var[c] + eps);
}

void run_inv_std(Context& context, const Tensor& var, const float& eps, Tensor& inv_std) {
  if (var.size() == 0) return;
  simt::launch<inv_std_of>({dim3(unsigned(ceil_div(var.size(), 256))), dim3(256), 0, stream_of(context)},
                           var.data<float>(), eps, var.size(), inv_std.data<float>());
}

const bool batch_norm_registered =
    batch_norm_forward_train.add(kThisDevice, {{"channel_groups", always, run_batch_norm_forward_train}}) &&
    batch_norm_forward_eval.add(kThisDevice, {{"vector", always, run_batch_norm_forward_eval}}) &&
    batch_norm_normalise.add(kThisDevice, {{"vector", always, run_normalise}}) &&
    batch_norm_backward.add(kThisDevice, {{"channel_groups", always, run_batch_norm_backward}}) &&
    batch_norm_inv_std.add(kThisDevice, {{"channel_per_thread", always, run_inv_std}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
