// linear, and conv2d with a 1x1 filter and stride 1 (the same product over [N H W, C]), through cuBLASLt.
#include "engine/cuda/cublaslt_matmul.h"
#include "engine/cuda/operands.h"
#include "engine/ops/epilogue.h"
#include "engine/ops/linear.h"

namespace plume::cuda {
namespace {

// cuDNN comes first for convolutions: it may choose an engine that knows the image's shape.
constexpr int kPriority1x1 = KernelSlotBase::kVendor - 1;

// Rows of channels: [N, C], or every position of [N, H, W, C].
int64_t rows(const Tensor& t) { return t.size() / t.dim(-1); }

// y = x w^T. w is [K, C] or [K, 1, 1, C].
Product forward_product(const Tensor& x, const Tensor& y) {
  return {.rows = rows(x),
          .cols = y.dim(-1),
          .depth = x.dim(-1),
          .left_transposed = false,
          .right_transposed = true,
          .type = x.dtype(),
          .output_type = y.dtype()};
}
Product fused_product(const Tensor& x, const Epilogue& epilogue, const Tensor& y) {
  Product product = forward_product(x, y);
  product.bias = epilogue.shift.defined();
  product.residual = epilogue.residual.defined();
  product.activation = epilogue.activation;
  return product;
}
// f32 sums, for an epilogue that cuBLASLt does not have.
Product sums_product(const Tensor& x, const Tensor& y) {
  Product product = forward_product(x, y);
  product.output_type = DType::f32;
  return product;
}
Product backward_input_product(const Tensor& dy, const Tensor& dx) {  // dx = dy w
  return {.rows = rows(dy),
          .cols = dx.dim(-1),
          .depth = dy.dim(-1),
          .left_transposed = false,
          .right_transposed = false,
          .type = dy.dtype(),
          .output_type = dx.dtype()};
}
Product backward_weight_product(const Tensor& x, const Tensor& dy, const Tensor& dw) {  // dw = dy^T x
  return {.rows = dy.dim(-1),
          .cols = x.dim(-1),
          .depth = rows(x),
          .left_transposed = true,
          .right_transposed = false,
          .type = x.dtype(),
          .output_type = dw.dtype()};
}

bool fuses(const Context& context, const Tensor& x, const Epilogue& epilogue, const Tensor& y) {
  return !epilogue.scale.defined() && !epilogue.adds_last() &&
         can_multiply(context, fused_product(x, epilogue, y));
}

bool fits_forward(const Context& context, const Tensor& x, const Tensor& w, const Epilogue& epilogue,
                  Tensor& y) {
  return usable({&x, &w, &y}) && usable(epilogue) &&
         (fuses(context, x, epilogue, y) || can_multiply(context, sums_product(x, y)));
}

// `packed` of a constant filter, or null.
void run_forward(Context& context, const Tensor& x, const Tensor& w, const Epilogue& epilogue, Tensor& y,
                 PackedFilter* packed) {
  if (fuses(context, x, epilogue, y)) {
    const Tensor bias = shift_for(context, epilogue.shift, y.dtype(), packed);
    multiply(context, fused_product(x, epilogue, y),
             {x.raw(), w.raw(), bias.raw(), y.raw(), epilogue.residual.raw()});
    return;
  }
  Tensor sums = y.dtype() == DType::f32 ? y : Tensor::empty(y.shape(), DType::f32, y.device(), "workspace");
  multiply(context, sums_product(x, y), {x.raw(), w.raw(), nullptr, sums.raw()});
  epilogue_apply(context, sums, epilogue, y);
}

bool fits_backward_input(const Context& context, const Tensor& dy, const Tensor& w, Tensor& dx) {
  return usable({&dy, &w, &dx}) && can_multiply(context, backward_input_product(dy, dx));
}

void run_backward_input(Context& context, const Tensor& dy, const Tensor& w, Tensor& dx) {
  multiply(context, backward_input_product(dy, dx), {dy.raw(), w.raw(), nullptr, dx.raw()});
}

bool fits_backward_weight(const Context& context, const Tensor& x, const Tensor& dy, Tensor& dw) {
  return usable_gradient(x, dy, dw) && can_multiply(context, backward_weight_product(x, dy, dw));
}

void run_backward_weight(Context& context, const Tensor& x, const Tensor& dy, Tensor& dw) {
  multiply(context, backward_weight_product(x, dy, dw), {dy.raw(), x.raw(), nullptr, dw.raw()});
}

// ---- conv2d, 1x1 ---------------------------------------------------------------------------------------

const bool registered =
    linear_forward.add(Device::cuda,
                       {{"cublaslt", fits_forward,
                         [](Context& c, const Tensor& x, const Tensor& w, const Epilogue& epilogue,
                            Tensor& y) { run_forward(c, x, w, epilogue, y, nullptr); }}},
                       KernelSlotBase::kVendor) &&
    linear_backward_input.add(Device::cuda, {{"cublaslt", fits_backward_input, run_backward_input}},
                              KernelSlotBase::kVendor) &&
    linear_backward_weight.add(Device::cuda, {{"cublaslt", fits_backward_weight, run_backward_weight}},
                               KernelSlotBase::kVendor) &&
    conv2d_forward.add(
        Device::cuda,
        {{"cublaslt_1x1",
          [](const Context& c, const Tensor& x, const Tensor& w, const Conv2dParams& params,
             const Epilogue& epilogue,
             Tensor& y) { return is_product(w, params) && fits_forward(c, x, w, epilogue, y); },
          [](Context& c, const Tensor& x, const Tensor& w, const Conv2dParams& params,
             const Epilogue& epilogue, Tensor& y) { run_forward(c, x, w, epilogue, y, params.packed); }}},
        kPriority1x1) &&
    conv2d_backward_input.add(
        Device::cuda,
        {{"cublaslt_1x1",
          [](const Context& c, const Tensor& dy, const Tensor& w, const Conv2dParams& params, Tensor& dx) {
            return is_product(w, params) && fits_backward_input(c, dy, w, dx);
          },
          [](Context& c, const Tensor& dy, const Tensor& w, const Conv2dParams&, Tensor& dx) {
            run_backward_input(c, dy, w, dx);
          }}},
        kPriority1x1) &&
    conv2d_backward_weight.add(
        Device::cuda,
        {{"cublaslt_1x1",
          [](const Context& c, const Tensor& x, const Tensor& dy, const Conv2dParams& params, Tensor& dw) {
            return is_product(dw, params) && fits_backward_weight(c, x, dy, dw);
          },
          [](Context& c, const Tensor& x, const Tensor& dy, const Conv2dParams&, Tensor& dw) {
            run_backward_weight(c, x, dy, dw);
          }}},
        kPriority1x1);

}  // namespace
}  // namespace plume::cuda
