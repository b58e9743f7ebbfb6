// fire_expand: the two expansions of SqueezeNet's fire module, side by side, a ReLU after each.
//
//   y[..., 0 .. A)     = relu(conv1x1(x, w1) + b1)
//   y[..., A .. A + B) = relu(conv3x3(x, w3) + b3), padding 1
//   x [N, H, W, C], w1 [A, 1, 1, C], w3 [B, 3, 3, C], b1 f32 [A], b3 f32 [B], y [N, H, W, A + B]
//
// Both write into their place of the result: concatenating moves nothing.
#pragma once
#include "engine/autograd/variable.h"
#include "engine/core/kernel_slot.h"
#include "engine/ops/conv2d.h"

namespace plume {

// With `packed` for the filters (conv2d.h), which then are constant, nothing is recorded.
Variable fire_expand(const Variable& x, const Variable& w1, const Variable& b1, const Variable& w3,
                     const Variable& b3, PackedFilter* packed1 = nullptr, PackedFilter* packed3 = nullptr);

using FireExpandForward = void(Context&, const Tensor& x, const Tensor& w1, const Tensor& b1,
                               const Tensor& w3, const Tensor& b3, PackedFilter* packed1,
                               PackedFilter* packed3, Tensor& y);
extern KernelSlot<FireExpandForward> fire_expand_forward;

}  // namespace plume
