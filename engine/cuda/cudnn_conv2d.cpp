// conv2d and depthwise_conv2d through cuDNN: one plan per shape, dtype, epilogue and setting.
//
// The epilogue is fused into the convolution where cuDNN can; elsewhere the convolution leaves its f32 sums
// and epilogue_apply finishes them, so that nothing is rounded twice.
#include "engine/cuda/cublaslt_matmul.h"
#include "engine/cuda/cudnn_convolution.h"
#include "engine/cuda/handles.h"
#include "engine/cuda/operands.h"
#include "engine/ops/depthwise_conv2d.h"
#include "engine/ops/epilogue.h"

namespace plume::cuda {
namespace {

ConvolutionProblem forward_problem(const Tensor& x, const Tensor& w, const Conv2dParams& params,
                                   const Tensor& y, DType result_type, const Epilogue* epilogue) {
  return {Convolution::forward, x.shape(), w.shape(), y.shape(), x.dtype(), result_type, params, epilogue};
}

// The whole operation in one plan.
Plan* fused_plan(const Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& params,
                 const Epilogue& epilogue, const Tensor& y) {
  return find_plan(context, forward_problem(x, w, params, y, y.dtype(), &epilogue));
}
// f32 sums alone.
Plan* sums_plan(const Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& params,
                const Tensor& y) {
  return find_plan(context, forward_problem(x, w, params, y, DType::f32, nullptr));
}

bool fits_forward(const Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& params,
                  const Epilogue& epilogue, Tensor& y) {
  return usable({&x, &w, &y}) && usable(epilogue) &&
         (fused_plan(context, x, w, params, epilogue, y) ||
          (!epilogue.empty() && sums_plan(context, x, w, params, y)));
}

void run_forward(Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& params,
                 const Epilogue& epilogue, Tensor& y) {
  if (Plan* plan = fused_plan(context, x, w, params, epilogue, y)) {
    static constexpr float kThreeValue = 3, kSixthValue = 1.0f / 6;
    const bool hard =
        epilogue.activation == Activation::hardswish || epilogue.activation == Activation::hardsigmoid;
    const Tensor shift = shift_for(context, epilogue.shift, x.dtype(), params.packed);
    plan->run(context, {{kInput, x.raw()},
                        {kFilter, w.raw()},
                        {kOutput, y.raw()},
                        {kScale, epilogue.scale.raw()},
                        {kShift, shift.raw()},
                        {kResidual, epilogue.residual.raw()},
                        {kThree, hard ? &kThreeValue : nullptr},
                        {kSixth, hard ? &kSixthValue : nullptr}});
    return;
  }
  Plan* plan = sums_plan(context, x, w, params, y);
  Tensor sums = y.dtype() == DType::f32 ? y : Tensor::empty(y.shape(), DType::f32, y.device(), "workspace");
  plan->run(context, {{kInput, x.raw()}, {kFilter, w.raw()}, {kOutput, sums.raw()}});
  epilogue_apply(context, sums, epilogue, y);
}

ConvolutionProblem backward_problem(Convolution pass, const Tensor& x, const Tensor& w,
                                    const Conv2dParams& params, const Tensor& dy, DType result_type) {
  return {pass, x.shape(), w.shape(), dy.shape(), dy.dtype(), result_type, params, nullptr};
}

bool fits_backward_input(const Context& context, const Tensor& dy, const Tensor& w,
                         const Conv2dParams& params, Tensor& dx) {
  return usable({&dy, &w, &dx}) &&
         find_plan(context, backward_problem(Convolution::backward_input, dx, w, params, dy, dx.dtype()));
}

void run_backward_input(Context& context, const Tensor& dy, const Tensor& w, const Conv2dParams& params,
                        Tensor& dx) {
  find_plan(context, backward_problem(Convolution::backward_input, dx, w, params, dy, dx.dtype()))
      ->run(context, {{kInput, dx.raw()}, {kFilter, w.raw()}, {kOutput, dy.raw()}});
}

Plan* weight_plan(const Context& context, const Tensor& x, const Tensor& dy, const Conv2dParams& params,
                  const Tensor& dw) {
  return find_plan(context, backward_problem(Convolution::backward_weight, x, dw, params, dy, dw.dtype()));
}

bool fits_backward_weight(const Context& context, const Tensor& x, const Tensor& dy,
                          const Conv2dParams& params, Tensor& dw) {
  return usable_gradient(x, dy, dw) && weight_plan(context, x, dy, params, dw);
}

void run_backward_weight(Context& context, const Tensor& x, const Tensor& dy, const Conv2dParams& params,
                         Tensor& dw) {
  weight_plan(context, x, dy, params, dw)
      ->run(context, {{kInput, x.raw()}, {kFilter, dw.raw()}, {kOutput, dy.raw()}});
}

// A gradient in f32 of 16-bit images needs a compiled kernel; cuBLASLt brings one for 1x1 filters.
bool backward_weight_pays(const Context&, const Tensor&, const Tensor& dy, const Conv2dParams& params,
                          Tensor& dw) {
  return dw.dtype() == dy.dtype() || !is_product(dw, params);
}

// ---- depthwise -----------------------------------------------------------------------------------------

// Our filters [R, S, C] are cuDNN's [K, R, S, 1] with K = C, turned over: a pass of its own over the filter,
// which is small beside the images.
Shape cudnn_filter(const Shape& w) { return {w[2], w[0], w[1], 1}; }
Tensor empty_filter(const Tensor& w) {
  return Tensor::empty(cudnn_filter(w.shape()), w.dtype(), w.device(), "workspace");
}
Tensor turned_over(const Context& context, const Tensor& w, const Conv2dParams& params) {
  if (params.packed && kept_operands(*params.packed).filter.defined())
    return kept_operands(*params.packed).filter;
  Tensor filter = empty_filter(w);
  transpose(context, w.dtype(), w.dim(0) * w.dim(1), w.dim(2), w.raw(), filter.raw());
  if (KeptOperands* kept = may_keep(params.packed)) kept->filter = filter;
  return filter;
}
// For questions about shapes only: `w` under the shape that cuDNN will see.
Tensor outline_of(const Tensor& w) { return w.reshape(cudnn_filter(w.shape())); }

bool fits_depthwise(const Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& params,
                    const Epilogue& epilogue, Tensor& y) {
  return w.size() > 0 && fits_forward(context, x, outline_of(w), params, epilogue, y);
}
void run_depthwise(Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& params,
                   const Epilogue& epilogue, Tensor& y) {
  run_forward(context, x, turned_over(context, w, params), params, epilogue, y);
}

bool fits_depthwise_backward_input(const Context& context, const Tensor& dy, const Tensor& w,
                                   const Conv2dParams& params, Tensor& dx) {
  return w.size() > 0 && fits_backward_input(context, dy, outline_of(w), params, dx);
}
void run_depthwise_backward_input(Context& context, const Tensor& dy, const Tensor& w,
                                  const Conv2dParams& params, Tensor& dx) {
  run_backward_input(context, dy, turned_over(context, w, {}), params, dx);
}

bool fits_depthwise_backward_weight(const Context& context, const Tensor& x, const Tensor& dy,
                                    const Conv2dParams& params, Tensor& dw) {
  if (dw.size() == 0) return false;
  Tensor outline = outline_of(dw);
  return fits_backward_weight(context, x, dy, params, outline);
}
void run_depthwise_backward_weight(Context& context, const Tensor& x, const Tensor& dy,
                                   const Conv2dParams& params, Tensor& dw) {
  Tensor filter = empty_filter(dw);
  run_backward_weight(context, x, dy, params, filter);
  transpose(context, dw.dtype(), dw.dim(2), dw.dim(0) * dw.dim(1), filter.raw(), dw.raw());
}

// Behind our own kernels, whose dispatch needs no such pass; --variant puts it first.
constexpr int kBehind = KernelSlotBase::kOwn - 1;

const bool registered_depthwise =
    depthwise_conv2d_forward.add(Device::cuda, {{"cudnn", fits_depthwise, run_depthwise}}, kBehind) &&
    depthwise_conv2d_backward_input.add(
        Device::cuda, {{"cudnn", fits_depthwise_backward_input, run_depthwise_backward_input}}, kBehind) &&
    depthwise_conv2d_backward_weight.add(
        Device::cuda, {{"cudnn", fits_depthwise_backward_weight, run_depthwise_backward_weight}}, kBehind);

const bool registered =
    conv2d_forward.add(Device::cuda, {{"cudnn", fits_forward, run_forward}}, KernelSlotBase::kVendor) &&
    conv2d_backward_input.add(Device::cuda, {{"cudnn", fits_backward_input, run_backward_input}},
                              KernelSlotBase::kVendor) &&
    conv2d_backward_weight.add(Device::cuda,
                               {{"cudnn", fits_backward_weight, run_backward_weight, backward_weight_pays}},
                               KernelSlotBase::kVendor);

}  // namespace
}  // namespace plume::cuda
