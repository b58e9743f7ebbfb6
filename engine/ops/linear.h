// linear: y = epilogue(x w^T). x [N, C], w [K, C], y [N, K].
#pragma once
#include "engine/autograd/variable.h"
#include "engine/core/kernel_slot.h"
#include "engine/math/epilogue.h"

namespace plume {

// `bias` is f32 [K] or undefined.
Variable linear(const Variable& x, const Variable& weight, const Variable& bias);
// For evaluation: with everything that follows it. Records nothing.
Tensor linear_fused(const Tensor& x, const Tensor& weight, const Epilogue& epilogue);

using LinearForward = void(Context&, const Tensor& x, const Tensor& w, const Epilogue&, Tensor& y);
using LinearBackwardInput = void(Context&, const Tensor& dy, const Tensor& w, Tensor& dx);   // dx = dy w
using LinearBackwardWeight = void(Context&, const Tensor& x, const Tensor& dy, Tensor& dw);  // dw = dy^T x
extern KernelSlot<LinearForward> linear_forward;
extern KernelSlot<LinearBackwardInput> linear_backward_input;
extern KernelSlot<LinearBackwardWeight> linear_backward_weight;

}  // namespace plume
