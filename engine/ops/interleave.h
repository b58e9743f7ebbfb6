// interleave: the channels of a and b in turn, y[2 i] = a[i], y[2 i + 1] = b[i]: the channel shuffle of two
// groups (Zhang et al. 2018) together with the concatenation before it.
//   a, b [..., C], y [..., 2 C]
//
// interleave_split gives the two halves of y as tensors of their own: what ShuffleNetV2 does between two
// units, concatenation, shuffle and split, in one movement of data.
#pragma once
#include <utility>

#include "engine/autograd/variable.h"
#include "engine/core/kernel_slot.h"

namespace plume {

Variable interleave(const Variable& a, const Variable& b);
std::pair<Variable, Variable> interleave_split(const Variable& a, const Variable& b);

// y1 undefined: y0 is all of y. Defined: y0 and y1 [..., C] are its halves.
using InterleaveForward = void(Context&, const Tensor& a, const Tensor& b, Tensor& y0, Tensor& y1);
// `more`: undefined, or a second gradient of y0 that is added to dy0; then y0 is all of y.
using InterleaveBackward = void(Context&, const Tensor& dy0, const Tensor& dy1, const Tensor& more,
                                Tensor& da, Tensor& db);
extern KernelSlot<InterleaveForward> interleave_forward;
extern KernelSlot<InterleaveBackward> interleave_backward;

}  // namespace plume
