// Kernels with known answers for the emulator's own tests, written as any kernel is.
#pragma once
#include <vector>

#include "kernels/common/vector.h"
#include "kernels/common/warp_reduce.h"
#include "kernels/simt/simt.h"

namespace plume::PLUME_KERNELS {

[[maybe_unused]] static __global__ void write_indices(int* out) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] = int(block * 10000 + thread);
}

template <int kThreads>
__global__ void sum_and_max(const float* x, int n, float* sum, float* largest) {
  float s = 0.0f, m = -1e30f;
  for (int i = int(threadIdx.x); i < n; i += kThreads) {
    s += x[i];
    m = max(m, x[i]);
  }
  s = block_sum<kThreads>(s);
  m = block_max<kThreads>(m);
  sum[threadIdx.x] = s;
  largest[threadIdx.x] = m;
}

// Reverses each tile of a block through shared memory.
[[maybe_unused]] static __global__ void reverse_tile(const int* in, int* out) {
  SMEM(tile, int[64]);
  const int t = int(threadIdx.x), base = int(blockIdx.x) * 64;
  tile[t] = in[base + t];
  __syncthreads();
  out[base + t] = tile[63 - t];
}

// A tree reduction in dynamic shared memory, one barrier per level.
[[maybe_unused]] static __global__ void tree_sum(const float* x, float* out) {
  float* s = simt::dyn_smem<float>();
  const unsigned t = threadIdx.x;
  s[t] = x[blockIdx.x * blockDim.x + t];
  __syncthreads();
  for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
    if (t < half) s[t] += s[t + half];
    __syncthreads();
  }
  if (t == 0) out[blockIdx.x] = s[0];
}

struct ShuffleResults {
  int broadcast, flipped, down, up, group;
  unsigned ballot;
  int any, all, votes;
};

[[maybe_unused]] static __global__ void shuffles(ShuffleResults* out) {
  const int t = int(threadIdx.x), lane = t % 32;
  ShuffleResults r{};
  r.broadcast = __shfl_sync(~0u, t, 5);
  r.flipped = __shfl_xor_sync(~0u, t, 3);
  r.down = __shfl_down_sync(~0u, t, 4);
  r.up = __shfl_up_sync(~0u, t, 4);
  r.group = __shfl_sync(~0u, t, 2, 8);
  r.ballot = __ballot_sync(~0u, lane % 3 == 0);
  r.any = __any_sync(~0u, t == 40);
  r.all = __all_sync(~0u, t < 32);
  // Halves of a warp on their own ways, with their own masks.
  if (lane < 16) {
    r.votes = __popc(__ballot_sync(0x0000ffffu, lane < 3));
  } else {
    r.votes = 100 + __shfl_sync(0xffff0000u, lane, 20);
  }
  __syncwarp();
  r.votes += 1000 * __syncthreads_count(t % 2);
  out[t] = r;
}

[[maybe_unused]] static __global__ void histogram(const int* keys, int n, int* counts, float* total,
                                                  int* largest) {
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= n) return;
  atomicAdd(&counts[keys[i]], 1);
  atomicAdd(total, 0.5f);
  atomicMax(largest, keys[i]);
}

// The last block to finish adds up what all blocks left. kFence and kBarrier leave out what makes it correct.
template <bool kFence, bool kBarrier>
__global__ void last_block_sum(const float* x, float* partial, unsigned* ticket, float* out) {
  SMEM(is_last, int);
  const float s = block_sum<64>(x[blockIdx.x * 64 + threadIdx.x]);
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = s;
    if constexpr (kFence) __threadfence();
    is_last = atomicInc(ticket, gridDim.x - 1) == gridDim.x - 1;
  }
  if constexpr (kBarrier) __syncthreads();
  if (is_last) {
    float v = 0.0f;
    for (unsigned i = threadIdx.x; i < gridDim.x; i += 64) v += partial[i];
    v = warp_sum(v);
    SMEM(halves, float[2]);
    if (threadIdx.x % 32 == 0) halves[threadIdx.x / 32] = v;
    __syncthreads();
    if (threadIdx.x == 0) *out = halves[0] + halves[1];
  }
}

template <class T>
__global__ void double_packs(const T* in, T* out, int packs) {
  constexpr int kWidth = kVectorWidth<T>;
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= packs) return;
  auto pack = Pack<T, kWidth>::load(in + i * kWidth);
  for (int k = 0; k < kWidth; ++k) pack[k] = T(2.0f * float(pack[k]));
  pack.store(out + i * kWidth);
}

}  // namespace plume::PLUME_KERNELS
