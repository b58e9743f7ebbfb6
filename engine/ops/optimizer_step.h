// sgd_step, adam_step, rmsprop_step: one step of an optimiser for many parameters at once. The formulas are
// in engine/math/optimizer_rules.h. Everything f32 but `rounded`.
#pragma once
#include <vector>

#include "engine/core/kernel_slot.h"
#include "engine/core/tensor.h"
#include "engine/math/optimizer_rules.h"

namespace plume {

// One parameter of the step. Handles, so that a list of them is cheap.
struct StepTensor {
  Tensor parameter, gradient;
  Tensor first, second;  // what the rule keeps; `first` is undefined without momentum, where it is one
  // The new parameter once more, in f16 or in bf16, for all tensors alike; undefined: nobody wants it.
  Tensor rounded;
  float rate_factor = 1;
  float weight_decay = 0;

  template <class Self, class F>
  static void for_each_tensor(Self& self, F&& f) {
    f(self.parameter);
    f(self.gradient);
    f(self.first);
    f(self.second);
    f(self.rounded);
  }
};

// control: f32 [kStepNumbers] on the device, a StepControl whose step has begun.
using SgdStep = void(Context&, std::vector<StepTensor>& tensors, const Tensor& control, const SgdParams&);
using AdamStep = void(Context&, std::vector<StepTensor>& tensors, const Tensor& control, const AdamParams&);
using RmspropStep = void(Context&, std::vector<StepTensor>& tensors, const Tensor& control,
                         const RmspropParams&);
extern KernelSlot<SgdStep> sgd_step;
extern KernelSlot<AdamStep> adam_step;
extern KernelSlot<RmspropStep> rmsprop_step;

}  // namespace plume
