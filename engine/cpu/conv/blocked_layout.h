// Activations in blocks of eight channels, [N, C/8, H, W, 8]: oneDNN's AVX2 kernels run faster on them than
// on NHWC, often by more than the two conversions cost.
#pragma once
#include "engine/core/tensor.h"
#include "engine/math/epilogue.h"

namespace plume::cpu {

inline constexpr int64_t kChannelBlock = 8;

// x [N, H, W, C] with C a multiple of 8.
void to_blocked(const Tensor& x, float* blocked);
// y [N, H, W, C] = epilogue(blocked); the residual is NHWC.
void from_blocked(const float* blocked, const Epilogue& epilogue, Tensor& y);

}  // namespace plume::cpu
