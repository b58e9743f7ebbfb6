// conv2d_concat: for evaluation, a 1x1 convolution with all that follows it over the channels of two images,
// its outputs as two images:
//
//   y = epilogue(conv1x1([x0, x1], w));  y0 = the first K0 channels of y, y1 = the other K1
//   x0 [N, H, W, C0], x1 [N, H, W, C1], w [K0 + K1, 1, 1, C0 + C1], y0 [N, H, W, K0], y1 [N, H, W, K1]
//
// Neither concatenation nor split moves anything. Records nothing.
#pragma once
#include <utility>

#include "engine/ops/conv2d.h"

namespace plume {

// `first` is K0. The epilogue's residual is undefined.
std::pair<Tensor, Tensor> conv2d_concat(const Tensor& x0, const Tensor& x1, const Tensor& weight,
                                        PackedFilter* packed, const Epilogue& epilogue, int64_t first);

using Conv2dConcatForward = void(Context&, const Tensor& x0, const Tensor& x1, const Tensor& w,
                                 PackedFilter* packed, const Epilogue&, Tensor& y0, Tensor& y1);
extern KernelSlot<Conv2dConcatForward> conv2d_concat_forward;

}  // namespace plume
