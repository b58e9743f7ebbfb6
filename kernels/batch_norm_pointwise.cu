// batch_norm_conv of 1x1 filters, "tensor_core": products on the matrix core, in 16 bits, of a norm and its
// activation that are made of x within shared memory (batch_norm_operands.h).
//
// forward          rows: pixels,  columns: filters k,  depth: channels c
// filter gradient  rows: channels c,  columns: filters k,  depth: pixels, cut into slices, which are added in
//                  order, f32 ones with other layers' (partial_sums.h)
//
// Bytes, forward: x for the statistics, x and y; as two operations x twice and u for the norm, u and y. For
// the filter's gradient x and dy, as many as u and dy. Per value four to five instructions more, with silu
// nine, and 16 bytes of a thread are read and written once more in shared memory: 64 wavefronts for a warp's
// share of 64 layers, beside some 200. Each further tile of columns would make u again, so that all filters
// must be columns of one.
#include "kernels/batch_norm_operands.h"
#include "kernels/conv2d_gradients.h"

namespace plume::PLUME_KERNELS {
namespace {

template <class T, int kColumns, int kUnit>
__global__ void __launch_bounds__(kCoreThreads, core_blocks(kColumns))
    norm_pointwise_core(const T* __restrict__ x, const NormView norm, const T* __restrict__ w,
                        const CorePlan plan, const FinishStore<T> store) {
  matrix_core<T, kColumns>(NormRows<T, kUnit>(x, plan.rows, plan.depth, norm),
                           MatrixRows<T, kColumns, kUnit>(w, plan.columns, plan.depth), plan,
                           WholeDepth<FinishStore<T>>{store});
}

template <class T, int kColumns, int kUnit>
__global__ void __launch_bounds__(kCoreThreads, core_blocks(kColumns))
    norm_pointwise_gradient_core(const T* __restrict__ x, const NormView norm, const T* __restrict__ dy,
                                 const CorePlan plan, const FilterGradientStore<PatchWalk> store) {
  matrix_core<T, kColumns>(NormLayers<T, kUnit>(x, plan.rows, plan.depth, norm),
                           MatrixLayers<T, kColumns, true, kUnit>(dy, plan.columns, plan.depth, true), plan,
                           store);
}

// Units of four values are ShuffleNetV2's 116 channels, of two its 58; in chunks come those that other
// networks widen and narrow again.
constexpr int columns_of_unit(int unit) { return unit == 4 ? 128 : unit == 1 ? 0 : 64; }

// f(columns of a tile, values of a copy), as constants.
template <class F>
void choose_pointwise(int unit, int64_t filters, F&& f) {
  using std::integral_constant;
  if (unit == 2) return f(integral_constant<int, 64>{}, integral_constant<int, 2>{});
  if (unit == 4) return f(integral_constant<int, 128>{}, integral_constant<int, 4>{});
  if (filters <= 32) return f(integral_constant<int, 32>{}, integral_constant<int, 8>{});
  f(integral_constant<int, 64>{}, integral_constant<int, 8>{});
}

void run_norm_pointwise(Context& context, const Tensor& x, const Tensor& gamma, const Tensor& beta,
                        const BatchNormParams& params, const Tensor& w, const Conv2dParams&, Tensor& y,
                        Tensor& mean, Tensor& inv_std, Tensor& running_mean, Tensor& running_var) {
  norm_statistics(context, x, params, mean, inv_std, running_mean, running_var);
  const NormView norm({gamma, beta, mean, inv_std, params.activation});
  const int64_t channels = x.dim(3), filters = w.dim(0);
  dispatch_16_bits(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    choose_pointwise(unit_of_copies({channels}, {x.raw(), w.raw()}), filters, [&](auto columns, auto unit) {
      constexpr int kColumns = columns(), kUnit = unit();
      const CorePlan plan(x.size() / channels, filters, channels, kColumns, 1);
      simt::launch<norm_pointwise_core<T, kColumns, kUnit>>(
          {dim3(unsigned(plan.blocks())), dim3(kCoreThreads), CoreMemory<kColumns>::kBytes,
           stream_of(context)},
          x.data<T>(), norm, w.data<T>(), plan, FinishStore<T>{EpilogueView<T>{}, y.data<T>(), int(filters)});
    });
  });
}

int unit_of_gradient(const Tensor& x, const Tensor& dy) {
  return unit_of_copies({x.dim(3), dy.dim(3)}, {x.raw(), dy.raw()});
}

void run_norm_pointwise_weight(Context& context, const Tensor& x, const KnownNorm& norm, const Tensor& dy,
                               const Conv2dParams& conv, Tensor& dw) {
  const ConvSizes s(x, dw, dy, conv);
  const PatchWalk walk = forward_patches(s);
  dispatch_16_bits(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    choose_pointwise(unit_of_gradient(x, dy), s.filters, [&](auto columns, auto unit) {
      constexpr int kColumns = columns(), kUnit = unit();
      const CorePlan plan = filter_gradient_plan(s.channels, s.filters, walk.pixels(), {kCoreRows, kColumns});
      in_slices_of_gradient<T>(context, plan, dw, [&](float* to) {
        const FilterGradientStore<PatchWalk> store{walk, to, s.filters, s.patch(), dw.size()};
        simt::launch<norm_pointwise_gradient_core<T, kColumns, kUnit>>(
            {dim3(unsigned(plan.blocks())), dim3(kCoreThreads), CoreMemory<kColumns>::kBytes,
             stream_of(context)},
            x.data<T>(), NormView(norm), dy.data<T>(), plan, store);
      });
    });
  });
}

// y is not known yet where a call is only weighed.
bool fits_pointwise_of_norm(const Tensor& x, const Shape& w, const Conv2dParams& conv, Activation activation,
                            int unit) {
  constexpr int64_t kMost = int64_t{1} << 30;
  return !is_depthwise(w) && w[1] * w[2] == 1 && conv.stride == 1 && conv.padding == 0 &&
         x.dtype() != DType::f32 && x.size() > 0 && x.size() < kMost && w[0] > 0 &&
         x.size() / x.dim(3) * w[0] < kMost && fits_operand_of_norm(activation) &&
         w[0] <= columns_of_unit(unit);
}
bool fits_norm_pointwise(const Context&, const Tensor& x, const Tensor&, const Tensor&,
                         const BatchNormParams& params, const Tensor& w, const Conv2dParams& conv, Tensor&,
                         Tensor&, Tensor&, Tensor&, Tensor&) {
  return fits_pointwise_of_norm(x, w.shape(), conv, params.activation,
                                unit_of_copies({x.dim(3)}, {x.raw(), w.raw()}));
}
bool fits_norm_pointwise_weight(const Context&, const Tensor& x, const KnownNorm& norm, const Tensor& dy,
                                const Conv2dParams& conv, Tensor& dw) {
  return fits_pointwise_of_norm(x, dw.shape(), conv, norm.activation, unit_of_gradient(x, dy));
}
bool norm_pointwise_pays(const Context&, const Tensor& x, const Tensor&, const Tensor&,
                         const BatchNormParams&, const Tensor&, const Conv2dParams&, Tensor&, Tensor&,
                         Tensor&, Tensor&, Tensor&) {
  return norm_pays(x);
}

const bool batch_norm_pointwise_registered =
    batch_norm_conv_forward.add(
        kThisDevice, {{"tensor_core", fits_norm_pointwise, run_norm_pointwise, norm_pointwise_pays}}) &&
    batch_norm_conv_backward_weight.add(
        kThisDevice, {{"tensor_core", fits_norm_pointwise_weight, run_norm_pointwise_weight}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
