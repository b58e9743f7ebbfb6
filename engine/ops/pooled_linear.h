// pooled_linear: for evaluation, the end of a classifier: the mean of each channel plane, and a linear layer
// with all that follows it.
//
//   y = epilogue(global_avg_pool(x) w^T)     x [N, H, W, C], w [K, C], y [N, K]
//
// Of few images one launch, where a device has a kernel for that. Records nothing.
#pragma once
#include "engine/core/kernel_slot.h"
#include "engine/math/epilogue.h"

namespace plume {

// Throws, naming both shapes, when they do not fit.
Tensor pooled_linear(const Tensor& x, const Tensor& weight, const Epilogue& epilogue);

using PooledLinear = void(Context&, const Tensor& x, const Tensor& w, const Epilogue&, Tensor& y);
extern KernelSlot<PooledLinear> pooled_linear_forward;

}  // namespace plume
