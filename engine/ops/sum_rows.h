// sum_rows: out[c] = sum over rows of x[row, c], where a row is everything but the last dimension. The
// gradient of a bias. x any floating dtype, out f32 [C].
#pragma once
#include "engine/core/kernel_slot.h"
#include "engine/core/tensor.h"

namespace plume {

using SumRows = void(Context&, const Tensor& x, Tensor& out);
extern KernelSlot<SumRows> sum_rows_forward;

}  // namespace plume
