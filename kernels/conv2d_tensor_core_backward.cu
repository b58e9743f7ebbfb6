// conv2d backward, "tensor_core": both gradients of 16-bit types as products on the matrix core.
//
// backward_input   rows: input pixels of one residue (h, w) mod stride, columns: channels c,
//                  depth: (tap, filter k), the taps that reach those pixels; at stride 2 the residues are one
//                  launch where channels and filters come in chunks (conv2d_residues.h)
// backward_weight  rows: (tap, channel c), columns: filters k, depth: output pixels, cut into slices, which
//                  are stored as w is and added in order, f32 ones with other layers' (partial_sums.h)
//
// FLOPs: 2 N P Q K R S C each. Bytes: dy and dx, or x and dy, once from memory (as often as there are tiles
// of columns, or of rows, from L2); the taps of a patch overlap in L1. 1x1 filters are limited by memory
// below some 270 channels, 3x3 filters by arithmetic.
// C % 8 == 0 and K % 8 == 0: 16-byte copies. 1x1 filters: four or two values at once; else pairs, or (odd)
// value by value, which waits for each; filters of first layers have kernels of their own
// (conv2d_stem_gradient.cu).
#include "kernels/conv2d_gradients.h"
#include "kernels/conv2d_residues.h"
#include "kernels/conv2d_strips.h"
#include "kernels/conv2d_taps.h"

namespace plume::PLUME_KERNELS {
namespace {

template <class T, int kColumns, int kReads>
__global__ void __launch_bounds__(core_threads(rows_of(Reads(kReads)), kColumns),
                                  core_blocks(kColumns, kCoreDepth, rows_of(Reads(kReads))))
    conv2d_backward_input_core(const T* __restrict__ dy, const T* __restrict__ w, const StripWalk strips,
                               const CorePlan plan, const SliceSums sums, const InputGradientStore<T> store) {
  const InSlices<InputGradientStore<T>> put{sums.partial, plan, store};
  constexpr int kRows = rows_of(Reads(kReads)), kThreads = core_threads(kRows, kColumns);
  if constexpr (is_strips(Reads(kReads))) {
    strip_core<T, kColumns, kRows, used_columns(Reads(kReads), kColumns)>(
        dy, strips, StripFilterLayers<T, kColumns, kThreads>(w, plan.columns, store.at.walk), plan, put);
  } else if constexpr (Reads(kReads) == Reads::chunks || Reads(kReads) == Reads::values) {
    constexpr bool kVector = Reads(kReads) == Reads::chunks;
    matrix_core<T, kColumns>(PatchRows<T, kVector>(dy, store.at.walk),
                             FilterLayers<T, kColumns, kVector>(w, store.at, store.s), plan, put);
  } else {
    constexpr int kUnit = unit_of(Reads(kReads));
    matrix_core<T, kColumns, kCoreDepth, kRows>(
        MatrixRows<T, kRows, kUnit, kCoreDepth, kThreads>(dy, plan.rows, plan.depth),
        MatrixLayers<T, kColumns, true, kUnit, kThreads>(w, plan.columns, plan.depth, true), plan, put);
  }
  if constexpr (!is_strips(Reads(kReads)) && kRows == kCoreRows)  // else not cut
    finish_slices<kColumns>(sums, plan, store);
}

template <class T, int kColumns>
__global__ void __launch_bounds__(kCoreThreads, core_blocks(kColumns))
    conv2d_backward_input_residues(const T* __restrict__ dy, const T* __restrict__ w, const ResiduePlan plan,
                                   T* __restrict__ dx) {
  matrix_core<T, kColumns>(ResidueRows<T>(dy, plan), ResidueFilters<T, kColumns>(w, plan), plan,
                           ResidueStore<T>{dx, plan});
}

template <class T, int kColumns, int kReads>
__global__ void __launch_bounds__(core_threads(rows_of(Reads(kReads)), kColumns),
                                  core_blocks(kColumns, kCoreDepth, rows_of(Reads(kReads))))
    conv2d_backward_weight_core(const T* __restrict__ x, const T* __restrict__ dy, const CorePlan plan,
                                const FilterGradientStore<PatchWalk> store) {
  constexpr int kUnit = unit_of(Reads(kReads)), kRows = rows_of(Reads(kReads)),
                kThreads = core_threads(kRows, kColumns);
  const MatrixLayers<T, kColumns, Reads(kReads) != Reads::values, kUnit, kThreads> gradients(
      dy, plan.columns, plan.depth, plan.columns % 2 == 0);
  if constexpr (Reads(kReads) == Reads::chunks || Reads(kReads) == Reads::values)
    matrix_core<T, kColumns>(PatchLayers<T, Reads(kReads) == Reads::chunks>(x, store.walk), gradients, plan,
                             store);
  else
    matrix_core<T, kColumns, kCoreDepth, kRows>(
        MatrixLayers<T, kRows, true, kUnit, kThreads>(x, plan.rows, plan.depth, true), gradients, plan,
        store);
}

template <class T>
__global__ void __launch_bounds__(core_threads(TapWalk::kRows), 1)
    conv2d_backward_weight_taps(const T* __restrict__ x, const T* __restrict__ dy, const CorePlan plan,
                                const FilterGradientStore<TapWalk> store) {
  tap_core(x, dy, store.walk, plan, store);
}

template <class T>
void launch_backward_input(const Context& context, const Tensor& dy, const Tensor& w, const ConvSizes& s,
                           int number, Tensor& dx) {
  const InputGradientStore<T> store{dx.data<T>(), s, InputClass(s, number)};
  const PatchWalk& walk = store.at.walk;
  if (walk.pixels() == 0) return;
  const bool matrix = walk.is_matrix() && s.filter_height * s.filter_width == 1;
  const int unit = unit_of_copies({s.channels, s.filters}, {dy.data<T>(), w.data<T>(), dx.data<T>()});
  int tile = core_columns(walk.pixels(), s.channels);
  Reads reads = reads_of(unit, matrix);
  if (reads == Reads::matrix) {
    const TileSize size = choose_tile(walk.pixels(), s.channels, s.filters, tile, 1, {kWide192, kWide128});
    reads = reads_of(size);
    tile = size.columns;
  }
  if (reads == Reads::chunks && s.stride == 1) reads = choose_strips(walk, s.channels, tile);
  const StripWalk strips(walk);
  const int64_t depth = is_strips(reads) ? strips.depth() : is_matrix(reads) ? s.filters : walk.depth();
  const auto launch = [&](auto columns, auto kind) {
    constexpr int kColumns = columns();
    constexpr int kRows = rows_of(kind());
    const CorePlan plan(walk.pixels(), s.channels, depth, kColumns, kRows == kCoreRows ? 64 : 1, kCoreDepth,
                        kRows);
    Tensor partial = plan.partial_sums(dx.device());
    const SliceSums sums(plan, partial);
    simt::launch<conv2d_backward_input_core<T, kColumns, int(kind())>>(
        {dim3(unsigned(plan.blocks())), dim3(core_threads(kRows, kColumns)),
         core_bytes<kColumns, kind()>(strips), stream_of(context)},
        dy.data<T>(), w.data<T>(), strips, plan, sums, store);
    launch_core_slices(context, sums, plan, store);
  };
  using std::integral_constant;
  if (reads == Reads::tall_strips && tile == 64 && s.channels <= used_columns(Reads::tall_strips_of_48, 64))
    launch(integral_constant<int, 64>{}, integral_constant<Reads, Reads::tall_strips_of_48>{});
  else
    choose_strip_reads(tile, reads, launch);
}

// False: where not all pixels can be had in one launch, or the depth had better be cut.
template <class T>
bool launch_residues(const Context& context, const Tensor& dy, const Tensor& w, const ConvSizes& s,
                     Tensor& dx) {
  const int unit = unit_of_copies({s.channels, s.filters}, {dy.data<T>(), w.data<T>(), dx.data<T>()});
  if (unit != kChunk || !ResiduePlan::fits(s)) return false;
  bool launched = false;
  choose_core(core_columns(s.channels), true, false, [&](auto columns, auto, auto) {
    constexpr int kColumns = columns();
    const ResiduePlan plan(s, kColumns);
    if (2 * plan.tiles() < plan.places) return;
    simt::launch<conv2d_backward_input_residues<T, kColumns>>(
        {dim3(unsigned(plan.blocks())), dim3(kCoreThreads), CoreMemory<kColumns>::kBytes, stream_of(context)},
        dy.data<T>(), w.data<T>(), plan, dx.data<T>());
    launched = true;
  });
  return launched;
}

template <class T>
void launch_tap_gradients(Context& context, const Tensor& x, const Tensor& dy, const PatchWalk& walk,
                          const ConvSizes& s, Tensor& dw) {
  const TapWalk taps(walk);
  const CorePlan plan(taps.rows(), s.filters, walk.pixels(), TapWalk::kSide, 1 << 16, kCoreDepth,
                      TapWalk::kRows);
  in_slices_of_gradient<T>(context, plan, dw, [&](float* to) {
    const FilterGradientStore<TapWalk> store{taps, to, s.filters, s.patch(), dw.size()};
    simt::launch<conv2d_backward_weight_taps<T>>(
        {dim3(unsigned(plan.blocks())), dim3(core_threads(TapWalk::kRows)), TapWalk::kBytes,
         stream_of(context)},
        x.data<T>(), dy.data<T>(), plan, store);
  });
}

template <class T>
void launch_backward_weight(Context& context, const Tensor& x, const Tensor& dy, const ConvSizes& s,
                            Tensor& dw) {
  const PatchWalk walk = forward_patches(s);
  const Reads reads =
      reads_of(unit_of_copies({s.channels, s.filters}, {x.data<T>(), dy.data<T>()}), walk.is_matrix());
  if (reads == Reads::chunks && TapWalk::fits(walk, s.filters))
    return launch_tap_gradients<T>(context, x, dy, walk, s, dw);
  const int64_t rows = is_matrix(reads) ? s.channels : walk.depth();
  const auto launch = [&](auto columns, auto kind) {
    constexpr int kColumns = columns(), kRows = rows_of(kind());
    const CorePlan plan = filter_gradient_plan(rows, s.filters, walk.pixels(), {kRows, kColumns});
    in_slices_of_gradient<T>(context, plan, dw, [&](float* to) {
      const FilterGradientStore<PatchWalk> store{walk, to, s.filters, s.patch(), dw.size()};
      simt::launch<conv2d_backward_weight_core<T, kColumns, int(kind())>>(
          {dim3(unsigned(plan.blocks())), dim3(core_threads(kRows, kColumns)),
           CoreMemory<kColumns, kCoreDepth, kRows>::kBytes, stream_of(context)},
          x.data<T>(), dy.data<T>(), plan, store);
    });
  };
  TileSize tile{kCoreRows, core_columns(s.filters)};
  if (reads == Reads::matrix) tile = filter_gradient_tile(rows, s.filters, walk.pixels());
  using std::integral_constant;
  if (tile.rows == kWideRows)
    launch(integral_constant<int, 192>{}, integral_constant<Reads, Reads::wide_matrix>{});
  else if (tile.rows == kLargeRows)
    launch(integral_constant<int, 128>{}, integral_constant<Reads, Reads::large_matrix>{});
  else
    choose_reads(tile.columns, reads, launch);
}

void run_tensor_core_backward_input(Context& context, const Tensor& dy, const Tensor& w,
                                    const Conv2dParams& params, Tensor& dx) {
  const ConvSizes s(dx, w, dy, params);
  const auto launch = [&](auto zero) {
    using T = decltype(zero);
    if (launch_residues<T>(context, dy, w, s, dx)) return;
    for (int number = 0; number < s.stride * s.stride; ++number)
      launch_backward_input<T>(context, dy, w, s, number, dx);
  };
  dy.dtype() == DType::f16 ? launch(f16{}) : launch(bf16{});
}

void run_tensor_core_backward_weight(Context& context, const Tensor& x, const Tensor& dy,
                                     const Conv2dParams& params, Tensor& dw) {
  const ConvSizes s(x, dw, dy, params);
  if (x.dtype() == DType::f16)
    launch_backward_weight<f16>(context, x, dy, s, dw);
  else
    launch_backward_weight<bf16>(context, x, dy, s, dw);
}

bool fits_tensor_core_input(const Context&, const Tensor& dy, const Tensor& w, const Conv2dParams& params,
                            Tensor& dx) {
  return params.stride <= 2 && fits_core(dx, w, dy);
}
bool fits_tensor_core_weight(const Context&, const Tensor& x, const Tensor& dy, const Conv2dParams&,
                             Tensor& dw) {
  return fits_core(x, dw, dy);
}

// Slices of the depth, and at stride 2 the classes of pixels, cost launches that implicit_gemm does without:
// some two microseconds each, in which CUDA cores do so many multiply-adds.
bool tensor_core_input_pays(const Context&, const Tensor&, const Tensor& w, const Conv2dParams& params,
                            Tensor& dx) {
  constexpr int64_t kLeastMacs = 1 << 24;
  return conv2d_macs(dx.shape(), w.shape(), params) > kLeastMacs;
}

const bool conv2d_tensor_core_backward_registered =
    conv2d_backward_input.add(
        kThisDevice,
        {{"tensor_core", fits_tensor_core_input, run_tensor_core_backward_input, tensor_core_input_pays}},
        KernelSlotBase::kOwn + 1) &&
    conv2d_backward_weight.add(kThisDevice,
                               {{"tensor_core", fits_tensor_core_weight, run_tensor_core_backward_weight}},
                               KernelSlotBase::kOwn + 1);

}  // namespace
}  // namespace plume::PLUME_KERNELS
