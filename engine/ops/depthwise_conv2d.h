// depthwise_conv2d: every channel is convolved with a filter of its own (groups = channels).
//
//   y[n, p, q, c] = epilogue( sum over r, s of x[n, h, v, c] * w[r, s, c] )
//   with h = p*stride - pad + r*dilation and v = q*stride - pad + s*dilation
//   x [N, H, W, C], w [R, S, C], y [N, P, Q, C]; P and Q as for conv2d
//
// The filter's last dimension is the channel, as the image's is, so that both are read in the same vectors.
#pragma once
#include "engine/autograd/variable.h"
#include "engine/core/kernel_slot.h"
#include "engine/math/epilogue.h"
#include "engine/ops/conv2d.h"

namespace plume {

// The output shape; throws, naming both shapes, when they do not fit.
Shape depthwise_conv2d_shape(const Shape& x, const Shape& weight, const Conv2dParams& params);
int64_t depthwise_conv2d_macs(const Shape& x, const Shape& weight, const Conv2dParams& params);

// `bias` is f32 [C] or undefined.
Variable depthwise_conv2d(const Variable& x, const Variable& weight, const Variable& bias,
                          const Conv2dParams& params);
// For operations that contain one: of its output's gradient dy to the places 0 (x) and 1 (the filter), where
// wanted. `weight` is the filter in x's type, its gradient of type `dw_type`.
void depthwise_conv2d_gradients(Gradients& gradients, const Tensor& dy, const Variable& x,
                                const Tensor& weight, DType dw_type, const Conv2dParams& params);
// For evaluation: convolution with everything that follows it. Records nothing.
Tensor depthwise_conv2d_fused(const Tensor& x, const Tensor& weight, const Conv2dParams& params,
                              const Epilogue& epilogue);

using DepthwiseForward = void(Context&, const Tensor& x, const Tensor& w, const Conv2dParams&,
                              const Epilogue&, Tensor& y);
using DepthwiseBackwardInput = void(Context&, const Tensor& dy, const Tensor& w, const Conv2dParams&,
                                    Tensor& dx);
using DepthwiseBackwardWeight = void(Context&, const Tensor& x, const Tensor& dy, const Conv2dParams&,
                                     Tensor& dw);
extern KernelSlot<DepthwiseForward> depthwise_conv2d_forward;
extern KernelSlot<DepthwiseBackwardInput> depthwise_conv2d_backward_input;
extern KernelSlot<DepthwiseBackwardWeight> depthwise_conv2d_backward_weight;

}  // namespace plume
