// stochastic_depth: the branch of a residual block is left out, image by image, with probability p, and
// divided by 1 - p otherwise (Huang et al. 2016; "row" mode of torchvision), and added to the block's input:
//   y[n, ...] = residual[n, ...] + keep[n] / (1 - p) * x[n, ...]
#pragma once
#include "engine/ops/dropout.h"

namespace plume {

// In evaluation a plain sum.
Variable stochastic_depth_add(const Variable& x, const Variable& residual, float p, bool training);

// `residual` undefined: without it, which is the gradient of x from dy.
using StochasticDepthForward = void(Context&, const Tensor& x, const Tensor& residual, const Tensor& state,
                                    const DropoutParams&, Tensor& y);
extern KernelSlot<StochasticDepthForward> stochastic_depth_forward;

// Of image n: 0 or 1 / (1 - p).
PLUME_HD inline float stochastic_depth_scale(const int64_t* state, const DropoutParams& params, int64_t n) {
  const float u = dropout_numbers(state, params.call, uint64_t(n) / 4).v[n % 4];
  return u < params.p ? 0.0f : 1.0f / (1.0f - params.p);
}

}  // namespace plume
