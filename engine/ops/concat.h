// concat: y = the channels of a, then those of b; channel_split is its inverse.
//   a [..., A], b [..., B], y [..., A + B]
#pragma once
#include <utility>

#include "engine/autograd/variable.h"
#include "engine/core/kernel_slot.h"

namespace plume {

Variable concat(const Variable& a, const Variable& b);
// The first half of the channels and the second. Throws when their number is odd.
std::pair<Variable, Variable> channel_split(const Variable& x);

using ConcatForward = void(Context&, const Tensor& a, const Tensor& b, Tensor& y);
using ConcatBackward = void(Context&, const Tensor& dy, Tensor& da, Tensor& db);
extern KernelSlot<ConcatForward> concat_forward;
extern KernelSlot<ConcatBackward> concat_backward;  // a plain split: channel_split's forward too

}  // namespace plume
