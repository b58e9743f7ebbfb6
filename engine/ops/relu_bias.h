// relu_bias: the gradient of what follows convolutions with biases, y = relu(z + bias), in one pass.
//
//   dz[row, k] = dy[row, k] + dy_more[row, k] where y[row, k] > 0      dbias[k] = sum over rows of dz[row, k]
//
// The channels of y may be those of two convolutions side by side (a fire module): dz and dbias are then the
// first one's, dz2 and dbias2 the second one's, else undefined, as dy_more may be. Biases f32.
#pragma once
#include "engine/core/kernel_slot.h"
#include "engine/core/tensor.h"

namespace plume {

using ReluBiasBackward = void(Context&, const Tensor& y, const Tensor& dy, const Tensor& dy_more, Tensor& dz,
                              Tensor& dbias, Tensor& dz2, Tensor& dbias2);
extern KernelSlot<ReluBiasBackward> relu_bias_backward;

}  // namespace plume
