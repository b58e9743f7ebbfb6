// Sums and maxima over a warp or a block.
//
// Every result is the same for every thread and from run to run: the order of the additions depends on the
// block size alone. All threads of the warp (block) must call; threads without a value pass the neutral one.
#pragma once
#include "kernels/simt/simt.h"

namespace plume::PLUME_KERNELS {

inline constexpr int kWarpSize = 32;
inline constexpr unsigned kFullWarp = 0xffffffffu;

struct SumOf {
  template <class T>
  __device__ static T combine(T a, T b) {
    return a + b;
  }
};

// Like fmaxf, a NaN loses against a number.
struct MaxOf {
  template <class T>
  __device__ static T combine(T a, T b) {
    return max(a, b);
  }
};

// Butterfly: after the last step every lane holds the same value, since a + b == b + a exactly.
template <class Op, int kWidth = kWarpSize, class T>
__device__ __forceinline__ T warp_reduce(T value) {
  static_assert(kWidth > 0 && kWidth <= kWarpSize && (kWidth & (kWidth - 1)) == 0);
#pragma unroll
  for (int offset = kWidth / 2; offset > 0; offset /= 2) {
    value = Op::combine(value, __shfl_xor_sync(kFullWarp, value, offset));
  }
  return value;
}

// kWidth < 32 reduces every group of kWidth neighbouring lanes by itself.
template <int kWidth = kWarpSize, class T>
__device__ __forceinline__ T warp_sum(T value) {
  return warp_reduce<SumOf, kWidth>(value);
}

template <int kWidth = kWarpSize, class T>
__device__ __forceinline__ T warp_max(T value) {
  return warp_reduce<MaxOf, kWidth>(value);
}

// kThreads is the number of threads of the block, a multiple of 32 up to 1024. The closing barrier makes
// the next call safe. Threads count as threadIdx.x, then y, then z.
template <class Op, int kThreads, class T>
__device__ __forceinline__ T block_reduce(T value) {
  static_assert(kThreads % kWarpSize == 0 && kThreads > 0 && kThreads <= 1024);
  value = warp_reduce<Op>(value);
  if constexpr (kThreads == kWarpSize) {
    return value;
  } else {
    constexpr int kWarps = kThreads / kWarpSize;
    SMEM(partial, T[kWarps]);
    const int thread = int(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z));
    if (thread % kWarpSize == 0) partial[thread / kWarpSize] = value;
    __syncthreads();
    T total = partial[0];
#pragma unroll
    for (int warp = 1; warp < kWarps; ++warp) total = Op::combine(total, partial[warp]);
    __syncthreads();
    return total;
  }
}

template <int kThreads, class T>
__device__ __forceinline__ T block_sum(T value) {
  return block_reduce<SumOf, kThreads>(value);
}

template <int kThreads, class T>
__device__ __forceinline__ T block_max(T value) {
  return block_reduce<MaxOf, kThreads>(value);
}

}  // namespace plume::PLUME_KERNELS
