// conv2d backward of few pixels, "one_launch": both gradients, the products of
// conv2d_tensor_core_backward.cu, by blocks of one launch. Those of blockIdx.y = 0 make dx, the others dw,
// for which neither has to wait, and neither alone would fill the multiprocessors. Slices of dx's depth are
// added by the last block of each tile (last_block.h), dw's with other layers' (partial_sums.h).
//
// Bytes: dy twice, x, w, dx and dw once; where slices wait for each other 4 bytes for each sum and slice to
// the L2 and back. A launch, some two microseconds, is what this saves, and a second one where dx has slices.
// 16-bit types, stride 1; channels and filters in multiples of 8, or of a 1x1 filter of 4 or 2. Which block
// is the last makes no difference: results repeat bit for bit.
#include "kernels/conv2d_gradients.h"

#include "kernels/common/row_tiling.h"

namespace plume::PLUME_KERNELS {
namespace {

constexpr int kGradientColumns = 64;
constexpr int64_t kMostGradientPixels = 4096;

template <class T, int kReads>
__global__ void __launch_bounds__(kCoreThreads, core_blocks(kGradientColumns))
    conv2d_gradients_core(const T* __restrict__ x, const T* __restrict__ dy, const T* __restrict__ w,
                          const CorePlan of_x, const SliceSums sums, const InputGradientStore<T> store_x,
                          const CorePlan of_w, const FilterGradientStore<PatchWalk> store_w) {
  constexpr int kColumns = kGradientColumns, kUnit = unit_of(Reads(kReads));
  if (blockIdx.y == 1) {
    const MatrixLayers<T, kColumns, true, kUnit> gradients(dy, of_w.columns, of_w.depth, true);
    if constexpr (is_matrix(Reads(kReads)))
      matrix_core<T, kColumns>(MatrixLayers<T, kCoreRows, true, kUnit>(x, of_w.rows, of_w.depth, true),
                               gradients, of_w, store_w);
    else
      matrix_core<T, kColumns>(PatchLayers<T, true>(x, store_w.walk), gradients, of_w, store_w);
    return;
  }
  const InSlices<InputGradientStore<T>> put{sums.partial, of_x, store_x};
  if constexpr (is_matrix(Reads(kReads)))
    matrix_core<T, kColumns>(MatrixRows<T, kCoreRows, kUnit>(dy, of_x.rows, of_x.depth),
                             MatrixLayers<T, kColumns, true, kUnit>(w, of_x.columns, of_x.depth, true), of_x,
                             put);
  else
    matrix_core<T, kColumns>(PatchRows<T, true>(dy, store_x.at.walk),
                             FilterLayers<T, kColumns, true>(w, store_x.at, store_x.s), of_x, put);
  finish_slices<kColumns>(sums, of_x, store_x);
}

template <class T>
void launch_conv2d_gradients(Context& context, const Tensor& x, const Tensor& w, const Tensor& dy,
                             const Conv2dParams& params, Reads reads, Tensor& dx, Tensor& dw) {
  constexpr int64_t kMostPartialRows = 2048;  // that one block adds up
  const ConvSizes s(x, w, dy, params);
  const PatchWalk walk = forward_patches(s);
  const InputGradientStore<T> store_x{dx.data<T>(), s, InputClass(s, 0)};
  const PatchWalk& over = store_x.at.walk;
  const bool matrix = is_matrix(reads);
  const CorePlan of_x(over.pixels(), s.channels, matrix ? s.filters : over.depth(), kGradientColumns,
                      std::max<int64_t>(kMostPartialRows / std::min<int64_t>(over.pixels(), kCoreRows), 1));
  const CorePlan of_w(matrix ? s.channels : walk.depth(), s.filters, walk.pixels(), kGradientColumns,
                      1 << 16);
  Tensor partial = of_x.partial_sums(dx.device());
  const SliceSums sums(of_x, partial, kMostPartialRows);
  const bool whole = of_w.slices == 1 && dw.dtype() == DType::f32;
  Tensor slices = whole ? dw : Tensor::empty({of_w.slices, dw.size()}, DType::f32, dw.device(), "workspace");
  const FilterGradientStore<PatchWalk> store_w{walk, slices.data<float>(), s.filters, s.patch(), dw.size()};
  const auto launch = [&](auto kind) {
    simt::launch<conv2d_gradients_core<T, int(kind())>>(
        {dim3(unsigned(std::max(of_x.blocks(), of_w.blocks())), 2), dim3(kCoreThreads),
         CoreMemory<kGradientColumns>::kBytes, stream_of(context)},
        x.data<T>(), dy.data<T>(), w.data<T>(), of_x, sums, store_x, of_w, store_w);
  };
  using std::integral_constant;
  switch (reads) {
    case Reads::matrix:
      launch(integral_constant<Reads, Reads::matrix>{});
      break;
    case Reads::matrix_by_4:
      launch(integral_constant<Reads, Reads::matrix_by_4>{});
      break;
    case Reads::matrix_by_2:
      launch(integral_constant<Reads, Reads::matrix_by_2>{});
      break;
    default:
      launch(integral_constant<Reads, Reads::chunks>{});
  }
  if (!whole) finish_gradient<T>(context, slices, of_w.slices, dw);
}

Reads reads_of_gradients(const Tensor& x, const Tensor& w, const Tensor& dy, const Conv2dParams& params,
                         const Tensor& dx) {
  const bool matrix = w.dim(1) * w.dim(2) == 1 && params.padding == 0;
  return reads_of(unit_of_copies({x.dim(3), dy.dim(3)}, {x.raw(), w.raw(), dy.raw(), dx.raw()}), matrix);
}

void run_conv2d_gradients(Context& context, const Tensor& x, const Tensor& w, const Tensor& dy,
                          const Conv2dParams& params, Tensor& dx, Tensor& dw) {
  const Reads reads = reads_of_gradients(x, w, dy, params, dx);
  if (x.dtype() == DType::f16)
    launch_conv2d_gradients<f16>(context, x, w, dy, params, reads, dx, dw);
  else
    launch_conv2d_gradients<bf16>(context, x, w, dy, params, reads, dx, dw);
}

// Whoever forces a variant of one of the two wants to see it run.
bool fits_conv2d_gradients(const Context& context, const Tensor& x, const Tensor& w, const Tensor& dy,
                           const Conv2dParams& params, Tensor& dx, Tensor&) {
  return fits_core(x, w, dy) && params.stride == 1 && x.size() / x.dim(3) <= kMostGradientPixels &&
         dy.size() / dy.dim(3) <= kMostGradientPixels &&
         reads_of_gradients(x, w, dy, params, dx) != Reads::values &&
         !conv2d_backward_input.forced(context.device()) && !conv2d_backward_weight.forced(context.device());
}

const bool conv2d_gradients_registered =
    conv2d_backward.add(kThisDevice, {{"one_launch", fits_conv2d_gradients, run_conv2d_gradients}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
