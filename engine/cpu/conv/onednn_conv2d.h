// What onednn_conv2d.cpp does for operations that contain a convolution.
#pragma once
#include "engine/ops/conv2d.h"

#if PLUME_HAVE_ONEDNN

namespace plume::cpu {

class Normaliser;

// y = conv(norm(x), w) and the filter's gradient of norm(x): a part of the batch is normalised by the thread
// that convolves it, into memory of its own. f32, and planes of y beyond those that fit position_gemm.cpp.
bool fits_normalised_conv2d(const Tensor& x, const Shape& w, const Conv2dParams&);
void normalised_conv2d(const Tensor& x, const Normaliser&, const Tensor& w, const Conv2dParams&, Tensor& y);
void normalised_conv2d_backward_weight(const Tensor& x, const Normaliser&, const Tensor& dy,
                                       const Conv2dParams&, Tensor& dw);

}  // namespace plume::cpu
#endif  // PLUME_HAVE_ONEDNN
