// activation: y = act(x), any shape, for every Activation (engine/math/activation.h). relu has an operation
// of its own, which keeps only its output.
#pragma once
#include "engine/autograd/variable.h"
#include "engine/core/kernel_slot.h"
#include "engine/math/activation.h"

namespace plume {

Variable activation(const Variable& x, Activation kind);

using ActivationForward = void(Context&, const Tensor& x, Activation, Tensor& y);
using ActivationBackward = void(Context&, const Tensor& x, const Tensor& dy, Activation, Tensor& dx);
extern KernelSlot<ActivationForward> activation_forward;
extern KernelSlot<ActivationBackward> activation_backward;

}  // namespace plume
