// Blocks that wait for other blocks of their launch, without a deadlock whatever the order in which the GPU
// starts them: a block's work does not come with its blockIdx. When it starts it takes a place, the number of
// blocks that have started before, and the work of this place. It waits only for work of lower places: their
// blocks have all started, none of them leaves its multiprocessor before it is done, and they in turn wait
// only for still lower ones; the lowest that is not done waits for none. (Decoupled look-back scans rest on
// the same argument: Merrill and Garland 2016.) The emulator runs blocks one after the other and stops at
// whoever waits for a later one.
#pragma once
#include "kernels/simt/flags.h"

namespace plume::PLUME_KERNELS {

// The block's place; one thread calls, once. `started` is 0 before and after the launch of `blocks` blocks.
__device__ __forceinline__ unsigned take_place(unsigned* started, unsigned blocks) {
  return atomicInc(started, blocks - 1);
}

// Lets blocks pass wait_for(): all threads of one block call, and what they have written will be seen.
__device__ __forceinline__ void publish(unsigned* flag) {
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0 && threadIdx.y == 0) atomicExch(flag, 1u);
}

// Waits for publish(). All threads of `readers` blocks call, the last of which leaves the flag 0 again, as it
// was before: 1 is published, 2 and more count who has passed.
__device__ __forceinline__ void wait_for(unsigned* flag, unsigned readers) {
  if (threadIdx.x == 0 && threadIdx.y == 0) {
    simt::wait_until_set(flag);
    atomicInc(flag, readers);
  }
  __syncthreads();
}

}  // namespace plume::PLUME_KERNELS
