// A reduction over the grid in one launch: blocks leave partial results in memory, and the last of them to
// arrive adds them all up, in an order that does not depend on which one that is.
//
//   partial[...] = ...;
//   if (!is_last_block(&tickets[group], blocks_of_group)) return;
//   ... sum over partial ...
#pragma once
#include "engine/core/recording.h"
#include "kernels/common/kernel.h"

namespace plume::PLUME_KERNELS {

inline constexpr int64_t kTickets = 65536;  // groups of blocks of one launch

// True in all threads of the last of `blocks` blocks that call this with one ticket, which then sees all that
// the others wrote before. The ticket is 0 before and after. All threads of a block must call.
__device__ __forceinline__ bool is_last_block(unsigned* ticket, unsigned blocks) {
  SMEM(last, int);
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0 && threadIdx.y == 0) {
    last = atomicInc(ticket, blocks - 1) == blocks - 1;
    __threadfence();  // nothing below is read before, or from a cache that was filled before
  }
  __syncthreads();
  return last != 0;
}

// kTickets zeros on this device, for any kernel: launches of a thread follow each other.
inline unsigned* tickets() {
  thread_local Tensor zeros;
  if (!zeros.defined()) {
    refuse_while_recording("begin to count blocks");  // a replay would only clear them then
    zeros = Tensor::zeros({kTickets}, DType::i32, kThisDevice, "workspace");
  }
  return reinterpret_cast<unsigned*>(zeros.data<int32_t>());
}

}  // namespace plume::PLUME_KERNELS
