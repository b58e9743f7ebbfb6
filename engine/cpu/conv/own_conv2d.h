// Our own f32 convolutions, for operations that contain one. Called inside a parallel region they stay on the
// calling thread.
#pragma once
#include "engine/ops/conv2d.h"

namespace plume::cpu {

// Dense, for constant filters (Conv2dParams::packed). The K channels are written to the channels from `first`
// on of y, which may have more. Residuals only where it has no more.
using ConstantConv2d = void(const Tensor& x, const Tensor& w, const Conv2dParams&, const Epilogue&, Tensor& y,
                            int64_t first);
ConstantConv2d indirect_gemm, winograd_4x4;
bool fits_winograd_4x4(const Tensor& x, const Tensor& w, const Conv2dParams&, const Tensor& y);

// Packs the filter for indirect_gemm, so that calls from several threads find it packed.
void pack_for_indirect_gemm(const Tensor& w, PackedFilter& packed);

// Depthwise, w [R, S, C].
void depthwise_rows(const Tensor& x, const Tensor& w, const Conv2dParams&, const Epilogue&, Tensor& y);
bool fits_depthwise_rows(const Shape& x, const Shape& w, const Conv2dParams&);  // both f32

}  // namespace plume::cpu
