// adaptive_avg_pool2d: means over as many windows as the output has pixels, whatever the input's size.
//
//   y[n, p, q, c] = mean of x[n, h, w, c] for floor(p H / P) <= h < ceil((p + 1) H / P), w likewise
//   x [N, H, W, C] -> y [N, P, Q, C]; windows overlap where P does not divide H, and repeat where P > H
//   (PyTorch's rule)
//
// With one output pixel this is global_avg_pool, which has kernels of its own and returns [N, C].
#pragma once
#include "engine/autograd/variable.h"
#include "engine/core/kernel_slot.h"

namespace plume {

Variable adaptive_avg_pool2d(const Variable& x, int64_t out_height, int64_t out_width);

using AdaptiveAvgPool2dForward = void(Context&, const Tensor& x, Tensor& y);
using AdaptiveAvgPool2dBackward = void(Context&, const Tensor& dy, Tensor& dx);
extern KernelSlot<AdaptiveAvgPool2dForward> adaptive_avg_pool2d_forward;
extern KernelSlot<AdaptiveAvgPool2dBackward> adaptive_avg_pool2d_backward;

}  // namespace plume
