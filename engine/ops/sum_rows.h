// sum_rows: out[c] = sum over rows of x[row, c], where a row is everything but the last dimension. The
// gradient of a bias. x any floating dtype, out f32 [C].
#pragma once
#include "engine/core/kernel_slot.h"
#include "engine/core/tensor.h"

namespace plume {

class Gradients;

// The gradient of a bias at `place`, where wanted, from that of what it was added to.
void add_bias_gradient(Gradients& gradients, int place, const Tensor& dy);

using SumRows = void(Context&, const Tensor& x, Tensor& out);
extern KernelSlot<SumRows> sum_rows_forward;

}  // namespace plume
