// conv2d_max_pool: for evaluation, a convolution with all that follows it, and a max pooling of that: how
// networks begin.
//
//   y = max_pool2d(epilogue(conv2d(x, w)))     as conv2d.h and max_pool2d.h have them
//
// Where a device has a kernel for both, what is pooled never lies in memory. Records nothing.
#pragma once
#include "engine/ops/conv2d.h"
#include "engine/ops/max_pool2d.h"

namespace plume {

// The epilogue's residual is undefined.
Tensor conv2d_max_pool(const Tensor& x, const Tensor& weight, const Conv2dParams& params,
                       const Epilogue& epilogue, const MaxPool2dParams& pool);

using Conv2dMaxPool = void(Context&, const Tensor& x, const Tensor& w, const Conv2dParams&, const Epilogue&,
                           const MaxPool2dParams&, Tensor& y);
extern KernelSlot<Conv2dMaxPool> conv2d_max_pool_forward;

}  // namespace plume
