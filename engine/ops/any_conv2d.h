// A convolution whose filter says which one: of [K, R, S, C] conv2d.h, of [R, S, C] depthwise_conv2d.h. For
// operations that contain either, without bias or epilogue.
#pragma once
#include "engine/ops/depthwise_conv2d.h"

namespace plume {

inline bool is_depthwise(const Shape& weight) { return weight.rank() == 3; }

// As those of the two: shapes that do not fit throw.
Shape any_conv2d_shape(const Shape& x, const Shape& weight, const Conv2dParams& params);
int64_t any_conv2d_macs(const Shape& x, const Shape& weight, const Conv2dParams& params);
// Tells the profiler of the multiply-adds of a forward pass.
void count_any_conv2d(const Shape& x, const Shape& weight, const Conv2dParams& params);

void any_conv2d_forward(Context&, const Tensor& x, const Tensor& w, const Conv2dParams&, Tensor& y);
void any_conv2d_backward_input(Context&, const Tensor& dy, const Tensor& w, const Conv2dParams&, Tensor& dx);
void any_conv2d_backward_weight(Context&, const Tensor& x, const Tensor& dy, const Conv2dParams&, Tensor& dw);

}  // namespace plume
