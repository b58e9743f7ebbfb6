// first_layer: how networks begin, in training: a convolution without a bias, of images that want no
// gradient, the batch norm behind it and, in some networks, the max pooling behind that.
//
//   z = conv2d(x, w)                                   conv2d.h
//   y = activation( norm(z) )                          batch_norm.h; or
//   y = max_pool2d( activation( norm(z) ) )            batch_norm_max_pool.h
//
// Forward these are the operations apart. Backward the filter's gradient alone reads that of z, the largest
// image of the network: a device that has a kernel for both makes it on the way and never stores it.
#pragma once
#include "engine/ops/batch_norm_max_pool.h"
#include "engine/ops/conv2d.h"

namespace plume {

// Whether a kernel for the gradients would run here. Otherwise they are those of the operations apart.
// `pool`: null where nothing is pooled.
bool fuses_first_layer(const Variable& x, const Variable& weight, const Conv2dParams& conv,
                       const BatchNormParams& params, const MaxPool2dParams* pool);

// Arguments as for conv2d, batch_norm_train and max_pool2d.
Variable first_layer_train(const Variable& x, const Variable& weight, const Variable& gamma,
                           const Variable& beta, Tensor& running_mean, Tensor& running_var,
                           const Conv2dParams& conv, const BatchNormParams& params,
                           const MaxPool2dParams* pool);

// The gradients of dy + dy_more, which may be undefined. Without pooling the winners are undefined and their
// `pool` has a window of 0.
using FirstLayerBackward = void(Context&, const Tensor& x, const Conv2dParams&, const Tensor& z,
                                const WindowWinners&, const Tensor& dy, const Tensor& dy_more,
                                const KnownNorm&, Tensor& dw, Tensor& dgamma, Tensor& dbeta);
extern KernelSlot<FirstLayerBackward> first_layer_backward;

}  // namespace plume
