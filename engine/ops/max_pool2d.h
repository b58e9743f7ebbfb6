// max_pool2d: the largest value of each window; padding never wins. Ties go to the first in row-major order,
// NaN wins.
//   x [N, H, W, C] -> y [N, P, Q, C];  P = round((H + 2 pad - window) / stride) + 1, rounded down, or up with
//   ceil_mode, where a last window that would start in the right padding is dropped (PyTorch's rule).
#pragma once
#include "engine/autograd/variable.h"
#include "engine/core/kernel_slot.h"

namespace plume {

struct MaxPool2dParams {
  int window = 2;  // at most 16
  int stride = 2;
  int padding = 0;  // at most window / 2
  bool ceil_mode = false;
};

Shape max_pool2d_shape(const Shape& x, const MaxPool2dParams& params);
Variable max_pool2d(const Variable& x, const MaxPool2dParams& params);

// argmax: u8 like y, the winner's place r * window + s inside its window; undefined where no gradient is
// wanted.
using MaxPool2dForward = void(Context&, const Tensor& x, const MaxPool2dParams&, Tensor& y, Tensor& argmax);
// dx is overwritten. Gathers over the windows that cover an input element: deterministic, no atomics.
using MaxPool2dBackward = void(Context&, const Tensor& dy, const Tensor& argmax, const MaxPool2dParams&,
                               Tensor& dx);
extern KernelSlot<MaxPool2dForward> max_pool2d_forward;
extern KernelSlot<MaxPool2dBackward> max_pool2d_backward;

}  // namespace plume
