// global_avg_pool: the mean of each channel plane. x [N, H, W, C] -> y [N, C], of x's type or, forward, f32.
#pragma once
#include "engine/autograd/variable.h"
#include "engine/core/kernel_slot.h"

namespace plume {

Variable global_avg_pool(const Variable& x);

using GlobalAvgPoolForward = void(Context&, const Tensor& x, Tensor& y);
using GlobalAvgPoolBackward = void(Context&, const Tensor& dy, Tensor& dx);
extern KernelSlot<GlobalAvgPoolForward> global_avg_pool_forward;
extern KernelSlot<GlobalAvgPoolBackward> global_avg_pool_backward;

}  // namespace plume
