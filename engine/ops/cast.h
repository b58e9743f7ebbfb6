// cast: the same values in another floating dtype, rounded to nearest even. The gradient is cast back.
#pragma once
#include "engine/autograd/variable.h"
#include "engine/core/kernel_slot.h"

namespace plume {

Variable cast(const Variable& x, DType dtype);  // x itself when it already has the dtype

using CastForward = void(Context&, const Tensor& x, Tensor& y);
extern KernelSlot<CastForward> cast_forward;

}  // namespace plume
