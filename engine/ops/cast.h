// cast: the same values in another floating dtype, rounded to nearest even. The gradient is cast back.
//
// The 16-bit values of a parameter are kept beside it, where they stay right until somebody writes to it. The
// optimiser's step writes both (optimizer_step.h), so that training casts no weights.
#pragma once
#include "engine/autograd/variable.h"
#include "engine/core/kernel_slot.h"

namespace plume {

Variable cast(const Variable& x, DType dtype);  // x itself when it already has the dtype

// The value of x in `dtype`; records nothing. For operations that take f32 parameters with 16-bit activations
// and give their gradients in f32. A leaf's is kept.
Tensor value_in(const Variable& x, DType dtype);
// Makes what is kept beside x right again where somebody wrote to x: before a recorded step is replayed,
// which reads it.
void refresh_kept_casts(const Variable& x);
// What is kept beside x and right, for who writes to x and to this, then says so; null when there is nothing.
KeptCast* right_cast(const Variable& x);
inline void say_right(KeptCast& kept, const Variable& x) { kept.writes = x.value().writes(); }

using CastForward = void(Context&, const Tensor& x, Tensor& y);
extern KernelSlot<CastForward> cast_forward;

}  // namespace plume
