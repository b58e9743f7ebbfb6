// add: y = a + b, equal shapes and dtypes. The output may be one of the inputs.
#pragma once
#include "engine/autograd/variable.h"
#include "engine/core/kernel_slot.h"

namespace plume {

Variable add(const Variable& a, const Variable& b);

using AddForward = void(Context&, const Tensor& a, const Tensor& b, Tensor& y);
extern KernelSlot<AddForward> add_forward;

}  // namespace plume
