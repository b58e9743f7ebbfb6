// linear, "tensor_core": the three products of linear.cu in 16 bits, on the matrix core.
//
// forward          rows n, columns k, depth c; x and w along the depth
// backward_input   rows n, columns c, depth k; dy along the depth, w along its columns
// backward_weight  rows k, columns c, depth n; dy and x along rows and columns
// Few tiles and a long depth are the rule here. Depth is cut into slices where these are added with others'
// later, a parameter's gradient; else only where it is worth a second launch.
//
// FLOPs and bytes: linear.cu. A classifier of 1024 to 1000 and 256 images takes 0.5 GFLOP and 3 MB: one
// microsecond each, so that launches and the way through the depth are the limit.
#include "engine/ops/linear.h"

#include "kernels/common/finish.h"
#include "kernels/common/matrix_operands.h"
#include "kernels/common/row_tiling.h"

namespace plume::PLUME_KERNELS {
namespace {

// A is [rows, depth] (kDepthA) or [depth, rows], B [columns, depth] (kDepthB) or [depth, columns].
template <class T, bool kDepthA, bool kDepthB, int kColumns, class Out>
__global__ void __launch_bounds__(kCoreThreads, core_blocks(kColumns))
    linear_core(const T* __restrict__ a, const T* __restrict__ b, const CorePlan plan, const SliceSums sums,
                const FinishStore<Out> store) {
  const auto operand = [&]<bool kDepth, int kRows>(const T* data, int rows) {
    if constexpr (kDepth)
      return MatrixRows<T, kRows>(data, rows, plan.depth);
    else
      return MatrixLayers<T, kRows, true>(data, rows, plan.depth, true);
  };
  matrix_core<T, kColumns>(operand.template operator()<kDepthA, kCoreRows>(a, plan.rows),
                           operand.template operator()<kDepthB, kColumns>(b, plan.columns), plan,
                           InSlices<FinishStore<Out>>{sums.partial, plan, store});
  finish_slices<kColumns>(sums, plan, store);
}

// out [rows, columns]. kLate: a parameter's gradient.
template <bool kDepthA, bool kDepthB, bool kLate = false, class T, class Out>
void launch_product(Context& context, const T* a, const T* b, int64_t depth, const Epilogue& epilogue, Out,
                    Tensor& out) {
  constexpr int64_t kDeep = 2048;
  const int64_t rows = out.dim(0), columns = out.dim(1);
  const FinishStore<Out> store{EpilogueView<Out>(epilogue), out.data<Out>(), int(columns)};
  const auto launch = [&](auto tile) {
    constexpr int kColumns = tile();
    const CorePlan plan(rows, columns, depth, kColumns, kLate || depth > kDeep ? 64 : 1);
    Tensor partial = plan.partial_sums(out.device());
    const SliceSums sums = kLate ? SliceSums(plan, partial, 0) : SliceSums(plan, partial);
    simt::launch<linear_core<T, kDepthA, kDepthB, kColumns, Out>>(
        {dim3(unsigned(plan.blocks())), dim3(kCoreThreads), CoreMemory<kColumns>::kBytes, stream_of(context)},
        a, b, plan, sums, store);
    if constexpr (!kLate)
      launch_core_slices(context, sums, plan, store);
    else if (sums.partial)
      finish_gradient<T>(context, partial.reshape({plan.slices, out.size()}), plan.slices, out);
  };
  if (columns <= 32)
    launch(std::integral_constant<int, 32>{});
  else
    launch(std::integral_constant<int, 64>{});
}

void forward_core(Context& context, const Tensor& x, const Tensor& w, const Epilogue& epilogue, Tensor& y) {
  dispatch_16_bits(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    launch_product<true, true>(context, x.data<T>(), w.data<T>(), x.dim(1), epilogue, zero, y);
  });
}

void backward_input_core(Context& context, const Tensor& dy, const Tensor& w, Tensor& dx) {
  dispatch_16_bits(dy.dtype(), [&](auto zero) {
    using T = decltype(zero);
    launch_product<true, false>(context, dy.data<T>(), w.data<T>(), w.dim(0), {}, zero, dx);
  });
}

void backward_weight_core(Context& context, const Tensor& x, const Tensor& dy, Tensor& dw) {
  dispatch_16_bits(dy.dtype(), [&](auto zero) {
    using T = decltype(zero);
    dispatch_result<T>(dw.dtype(), [&](auto result) {
      launch_product<false, false, true>(context, dy.data<T>(), x.data<T>(), x.dim(0), {}, result, dw);
    });
  });
}

// Operands are copied in chunks, and places counted in an int.
bool fits_linear_core(const Tensor& a, const Tensor& b, const Tensor& out) {
  constexpr int64_t kMost = int64_t{1} << 30;
  const auto fits = [](const Tensor& t) { return t.size() > 0 && t.size() < kMost; };
  return a.dtype() != DType::f32 && fits(a) && fits(b) && fits(out) && a.dim(1) % kChunk == 0 &&
         b.dim(1) % kChunk == 0 && is_aligned<16>(static_cast<const char*>(a.raw())) &&
         is_aligned<16>(static_cast<const char*>(b.raw()));
}
bool fits_forward_core(const Context&, const Tensor& x, const Tensor& w, const Epilogue&, Tensor& y) {
  return fits_linear_core(x, w, y);
}
bool fits_backward_core(const Context&, const Tensor& a, const Tensor& b, Tensor& out) {
  return fits_linear_core(a, b, out);
}

// Below, `tiled` takes no longer.
bool linear_core_pays(const Tensor& a, const Tensor& out) {
  constexpr int64_t kLeastMacs = 1 << 18;
  return a.size() * out.dim(1) > kLeastMacs;
}
bool forward_core_pays(const Context&, const Tensor& x, const Tensor&, const Epilogue&, Tensor& y) {
  return linear_core_pays(x, y);
}
bool backward_input_core_pays(const Context&, const Tensor& dy, const Tensor&, Tensor& dx) {
  return linear_core_pays(dy, dx);
}
bool backward_weight_core_pays(const Context&, const Tensor&, const Tensor& dy, Tensor& dw) {
  return linear_core_pays(dy, dw);
}

const bool linear_core_registered =
    linear_forward.add(kThisDevice, {{"tensor_core", fits_forward_core, forward_core, forward_core_pays}},
                       KernelSlotBase::kOwn + 1) &&
    linear_backward_input.add(
        kThisDevice, {{"tensor_core", fits_backward_core, backward_input_core, backward_input_core_pays}},
        KernelSlotBase::kOwn + 1) &&
    linear_backward_weight.add(
        kThisDevice, {{"tensor_core", fits_backward_core, backward_weight_core, backward_weight_core_pays}},
        KernelSlotBase::kOwn + 1);

}  // namespace
}  // namespace plume::PLUME_KERNELS
