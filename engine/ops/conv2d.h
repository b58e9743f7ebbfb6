// conv2d: dense 2-d convolution (cross-correlation), groups = 1.
//
//   y[n, p, q, k] = epilogue( sum over r, s, c of x[n, h, v, c] * w[k, r, s, c] )
//   with h = p*stride - pad + r*dilation and v = q*stride - pad + s*dilation
//   x [N, H, W, C], w [K, R, S, C], y [N, P, Q, K];  P = floor((H + 2 pad - dilation (R-1) - 1) / stride) + 1
#pragma once
#include "engine/autograd/variable.h"
#include "engine/core/kernel_slot.h"
#include "engine/math/epilogue.h"

namespace plume {

class Gradients;

// Where a variant may keep a filter in the layout it likes best. The owner of a constant filter (a network
// fused for evaluation) provides one per filter; whoever changes the filter clears it.
struct PackedFilter {
  std::shared_ptr<void> data;
};

struct Conv2dParams {
  int stride = 1;
  int padding = 0;
  int dilation = 1;
  PackedFilter* packed = nullptr;  // null: the filter may change between calls
};

// The output shape; throws, naming both shapes, when they do not fit.
Shape conv2d_shape(const Shape& x, const Shape& weight, const Conv2dParams& params);
// Multiply-adds of one forward pass.
int64_t conv2d_macs(const Shape& x, const Shape& weight, const Conv2dParams& params);

// `bias` is f32 [K] or undefined. A filter that is f32 with a 16-bit x is rounded to it (cast.h), and gets
// its gradient in f32. With Activation::relu, the only other one, y = relu(conv + bias) in one pass each way.
Variable conv2d(const Variable& x, const Variable& weight, const Variable& bias, const Conv2dParams& params,
                Activation activation = Activation::identity);
// For evaluation: convolution with everything that follows it. Records nothing.
Tensor conv2d_fused(const Tensor& x, const Tensor& weight, const Conv2dParams& params,
                    const Epilogue& epilogue);

// For operations that contain a convolution: of its output's gradient dy to the places 0 (x) and w_place,
// where wanted. `weight` is the filter in x's type, its gradient of type `dw_type`.
void conv2d_gradients(Gradients& gradients, const Tensor& dy, const Variable& x, const Tensor& weight,
                      DType dw_type, const Conv2dParams& params, int w_place);

// Both gradients by one kernel; false where a device has none for both, or one of the two is forced.
bool conv2d_backward_in_one(Context&, const Tensor& x, const Tensor& weight, const Tensor& dy,
                            const Conv2dParams& params, Tensor& dx, Tensor& dw);

using Conv2dForward = void(Context&, const Tensor& x, const Tensor& w, const Conv2dParams&, const Epilogue&,
                           Tensor& y);
using Conv2dBackwardInput = void(Context&, const Tensor& dy, const Tensor& w, const Conv2dParams&,
                                 Tensor& dx);
// dw has the type of x and dy, or is f32.
using Conv2dBackwardWeight = void(Context&, const Tensor& x, const Tensor& dy, const Conv2dParams&,
                                  Tensor& dw);
// Both gradients: of few pixels a launch costs more than what it computes.
using Conv2dBackward = void(Context&, const Tensor& x, const Tensor& w, const Tensor& dy, const Conv2dParams&,
                            Tensor& dx, Tensor& dw);
extern KernelSlot<Conv2dForward> conv2d_forward;
extern KernelSlot<Conv2dBackwardInput> conv2d_backward_input;
extern KernelSlot<Conv2dBackwardWeight> conv2d_backward_weight;
extern KernelSlot<Conv2dBackward> conv2d_backward;

}  // namespace plume
