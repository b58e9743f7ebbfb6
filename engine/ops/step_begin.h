// gradient_norm, step_begin: what precedes an optimiser's step (see engine/math/optimizer_rules.h).
#pragma once
#include <vector>

#include "engine/core/kernel_slot.h"
#include "engine/core/tensor.h"
#include "engine/math/optimizer_rules.h"

namespace plume {

// norm f32 [1] = sqrt of the sum of squares over all gradients (f32, any shapes), added up in double and in a
// fixed order. Not finite when any gradient is not.
using GradientNorm = void(Context&, const std::vector<Tensor>& gradients, Tensor& norm);
// input f32 [2] = {learning rate, backward passes that the gradients were added up over}; norm f32 [1] or
// undefined; control f32 [kStepNumbers] holds the StepControl that is brought up to date.
using StepBegin = void(Context&, const Tensor& input, const Tensor& norm, const StepRules&, Tensor& control);
extern KernelSlot<GradientNorm> gradient_norm;
extern KernelSlot<StepBegin> step_begin;

}  // namespace plume
