// relu: y = max(x, 0), any shape. The gradient needs only y: dx = dy where y > 0.
#pragma once
#include "engine/autograd/variable.h"
#include "engine/core/kernel_slot.h"

namespace plume {

Variable relu(const Variable& x);

using ReluForward = void(Context&, const Tensor& x, Tensor& y);
using ReluBackward = void(Context&, const Tensor& y, const Tensor& dy, Tensor& dx);
extern KernelSlot<ReluForward> relu_forward;
extern KernelSlot<ReluBackward> relu_backward;

}  // namespace plume
