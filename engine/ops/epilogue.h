// epilogue: what follows a convolution or linear layer, for variants that leave plain sums behind.
//
//   y[i, k] = activation(sums[i, k] * scale[k] + shift[k] + residual[i, k])
// or, with residual_last, activation(sums[i, k] * scale[k] + shift[k]) + residual[i, k].
//
// `sums` is f32 with the shape of y, channels last; y may be `sums` itself.
#pragma once
#include "engine/core/kernel_slot.h"
#include "engine/math/epilogue.h"

namespace plume {

using EpilogueApply = void(Context&, const Tensor& sums, const Epilogue&, Tensor& y);
extern KernelSlot<EpilogueApply> epilogue_apply;

}  // namespace plume
