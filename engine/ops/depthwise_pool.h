// depthwise_pool: a depthwise convolution in evaluation, and the means of its planes beside it.
//
//   y = epilogue(depthwise(x, w)), as depthwise_conv2d.h has it
//   sum over parts of pooled[n, part, c] = mean over p, q of y[n, p, q, c], of y as it is stored
//   y [N, P, Q, C], pooled [N, parts, C] in f32
//
// The squeeze-excitation behind it then reads y once, not twice. A plane has as many parts as the variant has
// strips or tiles of it; squeeze_gate (mbconv.h) adds them. Records nothing.
#pragma once
#include "engine/core/kernel_slot.h"
#include "engine/math/epilogue.h"
#include "engine/ops/conv2d.h"

namespace plume {

Tensor depthwise_pool(const Tensor& x, const Tensor& weight, const Conv2dParams& params,
                      const Epilogue& epilogue, Tensor& pooled);

// Room for the parts of the means of y's planes.
Tensor plane_means(const Tensor& y, int64_t parts);

// `pooled` comes with room for one part; a variant that leaves more makes it anew.
using DepthwisePool = void(Context&, const Tensor& x, const Tensor& w, const Conv2dParams&, const Epilogue&,
                           Tensor& y, Tensor& pooled);
extern KernelSlot<DepthwisePool> depthwise_pool_forward;

}  // namespace plume
