// batch_norm_conv: the batch norm of an image and the convolution that alone reads it, in training.
//
//   u = activation( gamma * (x - mean) / sqrt(var + eps) + beta )        batch_norm.h, the batch's statistics
//   y = conv(u, w)                                                               any_conv2d.h
//
// One operation where a device has a kernel for both: u is made as the convolution reads it and never stored,
// neither forward nor for the filter's gradient, which makes it again. That saves what writing it, reading it
// and normalising in a pass of its own move: three times x, forward. The gradients are those of the two, one
// after the other, or where a device can that, too, at once. (conv_batch_norm.h has the other order, for
// images of few pixels.)
#pragma once
#include "engine/ops/any_conv2d.h"
#include "engine/ops/batch_norm.h"

namespace plume {

// Whether a kernel for both would run here. Otherwise the two operations are the same in two steps.
bool fuses_batch_norm_conv(const Variable& x, const BatchNormParams& params, const Variable& weight,
                           const Conv2dParams& conv);

// Arguments as for batch_norm_train and conv2d, or depthwise_conv2d; no bias.
Variable batch_norm_conv_train(const Variable& x, const Variable& gamma, const Variable& beta,
                               Tensor& running_mean, Tensor& running_var, const BatchNormParams& params,
                               const Variable& weight, const Conv2dParams& conv);

// mean and inv_std are outputs that are kept for the gradient; w has the type of x.
using BatchNormConvForward = void(Context&, const Tensor& x, const Tensor& gamma, const Tensor& beta,
                                  const BatchNormParams&, const Tensor& w, const Conv2dParams&, Tensor& y,
                                  Tensor& mean, Tensor& inv_std, Tensor& running_mean, Tensor& running_var);
// dw has the type of x and dy, or is f32.
using BatchNormConvBackwardWeight = void(Context&, const Tensor& x, const KnownNorm&, const Tensor& dy,
                                         const Conv2dParams&, Tensor& dw);
// All of them.
using BatchNormConvBackward = void(Context&, const Tensor& x, const KnownNorm&, const Tensor& dy,
                                   const Tensor& w, const Conv2dParams&, Tensor& dx, Tensor& dw,
                                   Tensor& dgamma, Tensor& dbeta);
extern KernelSlot<BatchNormConvForward> batch_norm_conv_forward;
extern KernelSlot<BatchNormConvBackwardWeight> batch_norm_conv_backward_weight;
extern KernelSlot<BatchNormConvBackward> batch_norm_conv_backward;

}  // namespace plume
