// batch_norm of few rows, "one_launch": a block has a tile of channels and all rows (row_tiling.h), so that
// both passes over them are one launch, and the second one finds in the cache what the first one read. The
// passes are batch_norm's own (batch_norm_passes.h, batch_norm_gradients.h).
//
// Bytes: x once and y forward, x, dy and dx backward (more with what batch_norm.cu lists). A tile is 128
// bytes wide, so that 1024 rows are 128 KiB, read by one multiprocessor in a microsecond or two: what a
// launch of its own would cost, and there are two of these.
#include "kernels/batch_norm_gradients.h"

namespace plume::PLUME_KERNELS {
namespace {

template <class T, int kWidth>
__global__ void __launch_bounds__(kTilingThreads, 1)
    batch_norm_whole(const T* __restrict__ x, const T* __restrict__ residual, const Columns all,
                     FinishStatistics finish, Normalisation norm, Activation activation, T* __restrict__ y) {
  norm_of_block(x, residual, all, RowWalk<kWidth>(all.rows, all.rows), finish, norm, activation, y);
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kTilingThreads, 1)
    batch_norm_whole_backward(const GradientSource<T> source, bool fixed, const Columns all, float* dbeta,
                              float* dgamma, T* __restrict__ dx, T* __restrict__ dresidual) {
  gradient_of_block(source, fixed, all, RowWalk<kWidth>(all.rows, all.rows), dbeta, dgamma, dx, dresidual);
}

// One slice of rows.
simt::Launch whole_tiles(const Context& context, const Columns& all, int width) {
  return RowTiling(all.rows, all.columns / width, kReductionLanes, 1).launch(context);
}

void run_whole_forward(Context& context, const Tensor& x, const Tensor& gamma, const Tensor& beta,
                       const Tensor& residual, const BatchNormParams& params, const SampleDrop& drop,
                       Tensor& y, Tensor& mean, Tensor& inv_std, Tensor& running_mean, Tensor& running_var) {
  const Statistics out(mean, inv_std, running_mean, running_var);
  const Normalisation norm{gamma.data<float>(), beta.data<float>(), out.mean, out.inv_std, nullptr,
                           params.eps,          DropView(drop, x)};
  with_columns(x, false, [&](auto zero, auto width, const Columns& all) {
    using T = decltype(zero);
    simt::launch<batch_norm_whole<T, width()>>(
        whole_tiles(context, all, width()), x.data<T>(), data_or_null<T>(residual), all,
        FinishStatistics{params.eps, params.momentum, out}, norm, params.activation, y.data<T>());
  });
}

void run_whole_backward(Context& context, const Tensor& x, const Tensor& y, const Tensor& dy,
                        const Tensor& dy_more, const Tensor& gamma, const Tensor& beta, const Tensor& mean,
                        const Tensor& inv_std, const BatchNormBackwardParams& params, const SampleDrop& drop,
                        Tensor& dx, Tensor& dresidual, Tensor& dgamma, Tensor& dbeta) {
  with_columns(x, false, [&](auto zero, auto width, const Columns& all) {
    using T = decltype(zero);
    const auto source = gradient_source<T>(x, y, dy, dy_more, gamma, beta, mean, inv_std, params.activation,
                                           DropView(drop, x));
    simt::launch<batch_norm_whole_backward<T, width()>>(
        whole_tiles(context, all, width()), source, params.fixed_statistics, all, dbeta.data<float>(),
        dgamma.data<float>(), dx.data<T>(), dresidual.defined() ? dresidual.data<T>() : nullptr);
  });
}

bool is_small(const Tensor& x) { return x.size() > 0 && x.size() / x.dim(-1) <= kRowsOfOneBlock; }

bool fits_whole_forward(const Context&, const Tensor& x, const Tensor&, const Tensor&, const Tensor&,
                        const BatchNormParams&, const SampleDrop&, Tensor&, Tensor&, Tensor&, Tensor&,
                        Tensor&) {
  return is_small(x);
}
bool fits_whole_backward(const Context&, const Tensor& x, const Tensor&, const Tensor&, const Tensor&,
                         const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                         const BatchNormBackwardParams&, const SampleDrop&, Tensor&, Tensor&, Tensor&,
                         Tensor&) {
  return is_small(x);
}

constexpr int kBefore = KernelSlotBase::kOwn + 1;

const bool batch_norm_small_registered =
    batch_norm_forward_train.add(kThisDevice, {{"one_launch", fits_whole_forward, run_whole_forward}},
                                 kBefore) &&
    batch_norm_backward.add(kThisDevice, {{"one_launch", fits_whole_backward, run_whole_backward}}, kBefore);

}  // namespace
}  // namespace plume::PLUME_KERNELS
