// sgd_step: one step of stochastic gradient descent for many parameters in one launch.
//
//   g <- gradient + weight_decay * parameter
//   v <- momentum * v + g                        (v starts at 0)
//   parameter <- parameter - learning_rate * (nesterov ? g + momentum * v : v)
// PyTorch's torch.optim.SGD without dampening. Everything f32.
#pragma once
#include <vector>

#include "engine/core/kernel_slot.h"
#include "engine/core/tensor.h"

namespace plume {

struct SgdParams {
  float learning_rate = 0.1f;
  float momentum = 0.0f;
  bool nesterov = false;
};

// One parameter of the step. Handles, so that a list of them is cheap.
struct SgdTensor {
  Tensor parameter, gradient;
  Tensor velocity;  // undefined when momentum is 0
  float weight_decay = 0.0f;

  template <class Self, class F>
  static void for_each_tensor(Self& self, F&& f) {
    f(self.parameter);
    f(self.gradient);
    f(self.velocity);
  }
};

using SgdStep = void(Context&, std::vector<SgdTensor>& tensors, const SgdParams&);
extern KernelSlot<SgdStep> sgd_step;

}  // namespace plume
