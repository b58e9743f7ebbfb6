// batch_norm: three passes over [rows, channels], tiled as in row_tiling.h: a thread keeps the numbers of its
// 16 bytes of channels in registers and walks down the rows.
//
// forward_train: (1) statistics: Welford's recurrence per thread (the division by the count is shared by the
// thread's channels), merged over a block and, by the last block, over blocks with Chan's formula;
// (2) normalise, add the residual, activate. The statistics are taken of x minus the channel's first value,
// so that a mean that is large beside the deviation costs no digits. backward: (1) sums of dz and dz * xhat,
// merged alike; (2) dx and the residual's gradient.
//
// Bytes: forward 3 values per element (read x twice, write y), 4 with a residual; backward 5 (x, dy twice,
// write dx), with relu y twice more, with a second dy that twice
// more (an addition of its own would be three and the sum twice), with a residual one more write. silu and
// hardswish do not keep their input: it is computed once more from x. About 10 FLOPs per element: the bound
// is memory bandwidth. Which block is the last makes no difference: results repeat bit for bit.
//
// Sources: Welford 1962; Chan, Golub, LeVeque 1983.
#include "kernels/batch_norm_gradients.h"

namespace plume::PLUME_KERNELS {
namespace {

void launch_normalise(Context& context, const Tensor& x, const Tensor& residual, const Normalisation& norm,
                      Tensor& y) {
  with_tiling(x, [&](auto zero, auto width, const RowTiling& tiling) {
    using T = decltype(zero);
    simt::launch<normalise<T, decltype(width)::value>>(
        tiling.launch(context), x.data<T>(), data_or_null<T>(residual), x.size() / x.dim(-1), int(x.dim(-1)),
        tiling.rows_per_slice, norm, y.data<T>());
  });
}

void run_batch_norm_forward_train(Context& context, const Tensor& x, const Tensor& gamma, const Tensor& beta,
                                  const Tensor& residual, const BatchNormParams& params,
                                  const SampleDrop& drop, Tensor& y, Tensor& mean, Tensor& inv_std,
                                  Tensor& running_mean, Tensor& running_var) {
  if (x.size() == 0) return;
  with_tiling(x, [&](auto zero, auto width, const RowTiling&) {
    const Statistics out{mean.data<float>(),
                         inv_std.data<float>(),
                         running_mean.data<float>(),
                         running_var.data<float>(),
                         nullptr,
                         nullptr};
    launch_statistics<decltype(zero), decltype(width)::value>(
        context, x, FinishStatistics{params.eps, params.momentum, out});
  });
  launch_normalise(context, x, residual,
                   {gamma.data<float>(), beta.data<float>(), mean.data<float>(), inv_std.data<float>(),
                    nullptr, params.eps, params.activation, DropView(drop, x)},
                   y);
}

void run_batch_norm_forward_eval(Context& context, const Tensor& x, const Tensor& gamma, const Tensor& beta,
                                 const Tensor& residual, const Tensor& mean, const Tensor& var,
                                 const BatchNormParams& params, Tensor& y) {
  if (x.size() == 0) return;
  launch_normalise(context, x, residual,
                   {gamma.data<float>(), beta.data<float>(), mean.data<float>(), nullptr, var.data<float>(),
                    params.eps, params.activation, DropView()},
                   y);
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
  const int64_t channels = x.dim(-1), rows = x.size() / channels;
  with_tiling(x, [&](auto zero, auto width, const RowTiling& tiling) {
    using T = decltype(zero);
    constexpr int kWidth = decltype(width)::value;
    const auto source = gradient_source<T>(x, y, dy, dy_more, gamma, beta, mean, inv_std, params.activation,
                                           DropView(drop, x));
    launch_gradient_sums<T, kWidth>(context, source, rows, channels, dgamma, dbeta);
    const bool fixed = params.fixed_statistics;
    simt::launch<input_gradient<T, kWidth>>(
        tiling.launch(context), source, fixed ? nullptr : dbeta.data<float>(),
        fixed ? nullptr : dgamma.data<float>(), nullptr, rows, int(channels), tiling.rows_per_slice,
        dx.data<T>(), dresidual.defined() ? dresidual.data<T>() : nullptr);
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
    batch_norm_forward_train.add(kThisDevice, {{"welford", always, run_batch_norm_forward_train}}) &&
    batch_norm_forward_eval.add(kThisDevice, {{"vector", always, run_batch_norm_forward_eval}}) &&
    batch_norm_backward.add(kThisDevice, {{"two_pass", always, run_batch_norm_backward}}) &&
    batch_norm_inv_std.add(kThisDevice, {{"channel_per_thread", always, run_inv_std}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
