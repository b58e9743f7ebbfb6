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

constexpr int64_t kMostRows = 1024;

template <class T, int kWidth>
__global__ void __launch_bounds__(kTilingThreads, 1)
    batch_norm_whole(const T* __restrict__ x, const T* __restrict__ residual, int64_t rows, int channels,
                     FinishStatistics finish, Normalisation norm, T* __restrict__ y) {
  const RowWalk<kWidth> walk(rows, rows);
  float count = 0.0f, mean[kWidth] = {}, m2[kWidth] = {};
  walk_moments(x, channels, walk, count, mean, m2);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    Moments merged = merge_over_rows_of_block({count, mean[i], m2[i]});
    if (threadIdx.y != 0 || walk.channel >= channels) continue;
    merged.mean += float(x[walk.channel + i]);
    finish(walk.channel + i, merged);
  }
  __syncthreads();  // what finish wrote is read below
  normalise_rows(x, residual, channels, walk, norm, y);
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kTilingThreads, 1)
    batch_norm_whole_backward(const GradientSource<T> source, bool fixed, int64_t rows, int channels,
                              float* dbeta, float* dgamma, T* __restrict__ dx, T* __restrict__ dresidual) {
  const RowWalk<kWidth> walk(rows, rows);
  float sums[2 * kWidth] = {};
  walk_gradient_sums(source, channels, walk, sums);
  sum_over_rows_of_block(sums);
  if (threadIdx.y == 0 && walk.channel < channels) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      dbeta[walk.channel + i] = sums[i];
      dgamma[walk.channel + i] = sums[kWidth + i];
    }
  }
  __syncthreads();
  input_gradient_rows(source, fixed ? nullptr : dbeta, fixed ? nullptr : dgamma, nullptr, rows, channels,
                      walk, dx, dresidual);
}

// One slice of rows.
template <int kWidth>
simt::Launch whole_tiles(const Context& context, const Tensor& x) {
  return RowTiling(x.size() / x.dim(-1), x.dim(-1) / kWidth, kReductionLanes, 1).launch(context);
}

void run_whole_forward(Context& context, const Tensor& x, const Tensor& gamma, const Tensor& beta,
                       const Tensor& residual, const BatchNormParams& params, const SampleDrop& drop,
                       Tensor& y, Tensor& mean, Tensor& inv_std, Tensor& running_mean, Tensor& running_var) {
  const Statistics out{mean.data<float>(),
                       inv_std.data<float>(),
                       running_mean.data<float>(),
                       running_var.data<float>(),
                       nullptr,
                       nullptr};
  const Normalisation norm{gamma.data<float>(), beta.data<float>(), out.mean,         out.inv_std, nullptr,
                           params.eps,          params.activation,  DropView(drop, x)};
  with_tiling(x, [&](auto zero, auto width, const RowTiling&) {
    using T = decltype(zero);
    simt::launch<batch_norm_whole<T, decltype(width)::value>>(
        whole_tiles<decltype(width)::value>(context, x), x.data<T>(), data_or_null<T>(residual),
        x.size() / x.dim(-1), int(x.dim(-1)), FinishStatistics{params.eps, params.momentum, out}, norm,
        y.data<T>());
  });
}

void run_whole_backward(Context& context, const Tensor& x, const Tensor& y, const Tensor& dy,
                        const Tensor& dy_more, const Tensor& gamma, const Tensor& beta, const Tensor& mean,
                        const Tensor& inv_std, const BatchNormBackwardParams& params, const SampleDrop& drop,
                        Tensor& dx, Tensor& dresidual, Tensor& dgamma, Tensor& dbeta) {
  with_tiling(x, [&](auto zero, auto width, const RowTiling&) {
    using T = decltype(zero);
    const auto source = gradient_source<T>(x, y, dy, dy_more, gamma, beta, mean, inv_std, params.activation,
                                           DropView(drop, x));
    simt::launch<batch_norm_whole_backward<T, decltype(width)::value>>(
        whole_tiles<decltype(width)::value>(context, x), source, params.fixed_statistics,
        x.size() / x.dim(-1), int(x.dim(-1)), dbeta.data<float>(), dgamma.data<float>(), dx.data<T>(),
        dresidual.defined() ? dresidual.data<T>() : nullptr);
  });
}

bool is_small(const Tensor& x) { return x.size() > 0 && x.size() / x.dim(-1) <= kMostRows; }

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
