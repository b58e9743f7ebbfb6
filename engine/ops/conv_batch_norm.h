// conv_batch_norm: a convolution without a bias and the batch norm behind it, in training.
//
//   z = conv(x, w)                                      any_conv2d.h
//   y = activation( norm(z) + residual )                batch_norm.h, samples dropped as there
//
// One operation where a device has a kernel for both: for few output pixels a launch costs more than what it
// computes. Its gradient is that of the two, one after the other, or where a device can that, too, in one.
#pragma once
#include "engine/ops/any_conv2d.h"
#include "engine/ops/batch_norm.h"

namespace plume {

// Whether a kernel for both would run here. Otherwise the two operations are the same in two steps.
bool fuses_conv_batch_norm(const Variable& x, const Variable& weight, const Conv2dParams& params);

// Arguments as for conv2d, or depthwise_conv2d, and batch_norm_train.
Variable conv_batch_norm_train(const Variable& x, const Variable& weight, const Variable& gamma,
                               const Variable& beta, const Variable& residual, Tensor& running_mean,
                               Tensor& running_var, const Conv2dParams& conv, const BatchNormParams& params,
                               const SampleDrop& drop = {});

// z, mean and inv_std are outputs that are kept for the gradient; w has the type of x.
using ConvBatchNormForward = void(Context&, const Tensor& x, const Tensor& w, const Conv2dParams&,
                                  const Tensor& gamma, const Tensor& beta, const Tensor& residual,
                                  const BatchNormParams&, const SampleDrop&, Tensor& z, Tensor& y,
                                  Tensor& mean, Tensor& inv_std, Tensor& running_mean, Tensor& running_var);
// Of one without a residual, whose y is read by dy and, unless undefined, dy_more.
using ConvBatchNormBackward = void(Context&, const Tensor& x, const Tensor& w, const Conv2dParams&,
                                   const Tensor& z, const Tensor& dy, const Tensor& dy_more,
                                   const Tensor& gamma, const Tensor& beta, const Tensor& mean,
                                   const Tensor& inv_std, const Activation&, Tensor& dx, Tensor& dw,
                                   Tensor& dgamma, Tensor& dbeta);
extern KernelSlot<ConvBatchNormForward> conv_batch_norm_forward;
extern KernelSlot<ConvBatchNormBackward> conv_batch_norm_backward;

}  // namespace plume
