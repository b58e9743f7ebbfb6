// Blocks that wait for each other, as they should and not.
#pragma once
#include "kernels/common/block_order.h"

namespace plume::PLUME_KERNELS {

enum class Waits { rightly, never, for_the_next };

// Each block adds 1 to what the one before it has left: values [blocks, 64]; words: places and a flag per
// block, all 0 before and after. kFence and kWaits leave out what makes it correct.
template <bool kFence, Waits kWaits>
__global__ void hand_on(unsigned* words, float* values) {
  SMEM(place, unsigned);
  if (threadIdx.x == 0) {
    place = take_place(words, gridDim.x);
    if (simt::is_sample()) place = blockIdx.x;
  }
  __syncthreads();
  unsigned* const flags = words + 1;
  const unsigned t = threadIdx.x;
  float before = 0.0f;
  if (place > 0) {
    if (kWaits == Waits::rightly) wait_for(flags + place - 1, 1);
    if (kWaits == Waits::for_the_next) wait_for(flags + (place + 1) % gridDim.x, 1);
    before = values[(place - 1) * 64 + 63 - t];
  }
  values[place * 64 + t] = before + 1.0f;
  if (place + 1 == gridDim.x) return;
  if (kFence) return publish(flags + place);
  __syncthreads();
  if (t == 0) atomicExch(flags + place, 1u);
}

}  // namespace plume::PLUME_KERNELS
