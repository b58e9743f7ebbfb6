// Grid-stride loops: every thread takes items grid_thread(), grid_thread() + grid_threads(), ...
#pragma once
#include <algorithm>

#include "kernels/common/kernel.h"

namespace plume::PLUME_KERNELS {

inline constexpr int kElementThreads = 256;

// Enough blocks to fill any GPU several times over; a thread of a larger problem takes several items.
inline simt::Launch grid_stride(const Context& context, int64_t items) {
  const int64_t blocks = std::min<int64_t>(ceil_div(items, kElementThreads), 8192);
  return {dim3(unsigned(std::max<int64_t>(blocks, 1))), dim3(kElementThreads), 0, stream_of(context)};
}

__device__ __forceinline__ int64_t grid_thread() { return int64_t(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ __forceinline__ int64_t grid_threads() { return int64_t(gridDim.x) * blockDim.x; }

}  // namespace plume::PLUME_KERNELS
