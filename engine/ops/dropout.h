// dropout: in training every element becomes 0 with probability p and is divided by 1 - p otherwise
// (Srivastava et al. 2014); in evaluation nothing happens.
#pragma once
#include "engine/autograd/variable.h"
#include "engine/core/kernel_slot.h"
#include "engine/ops/layer_random.h"

namespace plume {

struct DropoutParams {
  float p = 0;        // below 1
  uint32_t call = 0;  // layer_random().next_call()
};

Variable dropout(const Variable& x, float p, bool training);

// y = x * mask / (1 - p); of dy, the gradient. `state`: see layer_random.h.
using DropoutForward = void(Context&, const Tensor& x, const Tensor& state, const DropoutParams&, Tensor& y);
extern KernelSlot<DropoutForward> dropout_forward;

}  // namespace plume
