// Kernels with one mistake each. Every one of them must be found by the check that its test names.
#pragma once
#include "kernels/common/vector.h"
#include "kernels/common/warp_reduce.h"
#include "kernels/simt/simt.h"

namespace plume::PLUME_KERNELS {

[[maybe_unused]] static __global__ void read_past_global(const float* x, float* out) {
  out[0] = x[threadIdx.x + 1];
}

[[maybe_unused]] static __global__ void write_past_shared(float* out, int width) {
  SMEM(row, float[32]);
  SMEM(next, float[32]);
  next[threadIdx.x] = 0.0f;
  row[int(threadIdx.x) + width] = 1.0f;
  __syncthreads();
  out[threadIdx.x] = row[threadIdx.x] + next[threadIdx.x];
}

[[maybe_unused]] static __global__ void write_past_dynamic(int bytes) { simt::dyn_smem<char>()[bytes] = 1; }

[[maybe_unused]] static __global__ void misaligned_pack(const float* x, float* out) {
  out[threadIdx.x] = reinterpret_cast<const Pack<float, 4>*>(x + threadIdx.x)->values[0];
}

[[maybe_unused]] static __global__ void read_through_null(const float* x, float* out) { out[0] = x[0]; }

[[maybe_unused]] static __global__ void signed_overflow(int large, int* out) {
  out[0] = large + int(threadIdx.x);
}

[[maybe_unused]] static __global__ void wild_shift(int* out) { out[0] = 1 << (threadIdx.x + 1); }

[[maybe_unused]] static __global__ void divergent_barrier(float* out) {
  if (threadIdx.x < 7) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  out[threadIdx.x] = 1.0f;
}

[[maybe_unused]] static __global__ void early_exit(float* out, unsigned n) {
  if (threadIdx.x >= n) return;
  out[threadIdx.x] = 1.0f;
  __syncthreads();
}

[[maybe_unused]] static __global__ void barrier_in_one_warp(float* out) {
  if (threadIdx.x < 32) __syncthreads();
  out[threadIdx.x] = __shfl_sync(~0u, 1.0f, 0);
  if (threadIdx.x >= 32) __shfl_sync(0x3u, 1.0f, 0);
}

[[maybe_unused]] static __global__ void missing_lane(float* out) {
  if (threadIdx.x != 9) {
    out[threadIdx.x] = __shfl_xor_sync(~0u, 1.0f, 1);
  }
  __syncthreads();
}

[[maybe_unused]] static __global__ void lane_outside_mask(float* out) {
  out[threadIdx.x] = __shfl_sync(0x0000ffffu, 1.0f, 0);
}

[[maybe_unused]] static __global__ void source_outside_mask(float* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0x0000ffffu, 1.0f, 20);
}

[[maybe_unused]] static __global__ void mixed_operations(float* out) {
  if (threadIdx.x < 16) {
    out[threadIdx.x] = __shfl_xor_sync(~0u, 1.0f, 1);
  } else {
    out[threadIdx.x] = __shfl_down_sync(~0u, 1.0f, 1);
  }
}

[[maybe_unused]] static __global__ void uninitialised_shared(float* out) {
  SMEM(row, float[64]);
  if (threadIdx.x < 32) row[threadIdx.x] = 1.0f;
  __syncthreads();
  out[threadIdx.x] = row[threadIdx.x];
}

[[maybe_unused]] static __global__ void too_much_static_shared(float* out) {
  SMEM(large, float[49 * 1024 / 4]);
  large[threadIdx.x] = 1.0f;
  out[threadIdx.x] = large[threadIdx.x];
}

[[maybe_unused]] static __global__ void nothing() {}

// Copies that are not waited for as they should be.
enum class CopyBug { none, no_wait, reads_early, too_many_groups, no_commit, writes_source, writes_place };

// 32 lanes: out[i] = in[i] + in[32 + i], two groups.
template <CopyBug kBug>
__global__ void copy_two_groups(float* in, float* out) {
  struct alignas(16) Row {
    float at[64];
  };
  SMEM(row, Row);
  const int i = int(threadIdx.x);
  simt::async_copy<4>(&row.at[i], in + i);
  simt::async_commit();
  simt::async_copy<4>(&row.at[32 + i], in + 32 + i);
  if constexpr (kBug != CopyBug::no_commit) simt::async_commit();
  if constexpr (kBug == CopyBug::writes_source) in[32 + i] = 7.0f;
  if constexpr (kBug == CopyBug::writes_place) row.at[32 + i] = 7.0f;
  simt::async_wait<1>();
  float sum = row.at[i];
  if constexpr (kBug == CopyBug::reads_early) sum += row.at[32 + i];
  if constexpr (kBug != CopyBug::no_wait && kBug != CopyBug::too_many_groups) simt::async_wait<0>();
  if constexpr (kBug == CopyBug::too_many_groups) simt::async_wait<1>();
  if constexpr (kBug != CopyBug::reads_early) sum += row.at[32 + i];
  out[i] = sum;
  if constexpr (kBug == CopyBug::too_many_groups) simt::async_wait<0>();
}

template <int kBytes>
__global__ void copy_at(const char* in, int from, int to, unsigned valid, float* out) {
  struct alignas(16) Row {
    char at[32];
  };
  SMEM(row, Row);
  simt::async_copy<kBytes>(&row.at[to], in + from, valid);
  simt::async_commit();
  simt::async_wait<0>();
  *out = *reinterpret_cast<const float*>(&row.at[to]);
}

[[maybe_unused]] static __global__ void copy_to_global(const float* in, float* out) {
  simt::async_copy<4>(out, in);
  simt::async_commit();
  simt::async_wait<0>();
}

// A lane reads what its neighbour has copied: that takes a barrier.
template <bool kBarrier>
__global__ void copy_for_neighbour(const float* in, float* out) {
  SMEM(row, float[64]);
  const unsigned i = threadIdx.x;
  simt::async_copy<4>(&row[i], in + i);
  simt::async_commit();
  simt::async_wait<0>();
  if constexpr (kBarrier) __syncthreads();
  out[blockIdx.x * blockDim.x + i] = row[63 - i];
}

// The next copies may overwrite what all have read, and no earlier.
template <bool kBarrier>
__global__ void copy_over_what_is_read(const float* in, float* out) {
  SMEM(row, float[64]);
  const unsigned i = threadIdx.x;
  float sum = 0.0f;
  for (int round = 0; round < 2; ++round) {
    simt::async_copy<4>(&row[i], in + 64 * round + i);
    simt::async_commit();
    simt::async_wait<0>();
    __syncthreads();
    sum += row[63 - i];
    if constexpr (kBarrier) __syncthreads();
  }
  out[blockIdx.x * blockDim.x + i] = sum;
}

// The races. kBarrier = true is the correct kernel.
template <bool kBarrier>
__global__ void shared_neighbour(float* out) {
  SMEM(row, float[64]);
  row[threadIdx.x] = float(threadIdx.x);
  if constexpr (kBarrier) __syncthreads();
  out[blockIdx.x * blockDim.x + threadIdx.x] = row[63 - threadIdx.x];
}

// All threads read, then one writes: the write needs the second barrier.
template <bool kBarrier>
__global__ void write_after_read(float* out) {
  SMEM(value, float);
  if (threadIdx.x == 0) value = 1.0f;
  __syncthreads();
  float sum = value;
  if constexpr (kBarrier) __syncthreads();
  if (threadIdx.x == 0) value = 2.0f;
  __syncthreads();
  out[blockIdx.x * blockDim.x + threadIdx.x] = sum + value;
}

template <bool kSync>
__global__ void warp_exchange(float* out) {
  SMEM(row, float[32]);
  row[threadIdx.x] = float(threadIdx.x);
  if constexpr (kSync) __syncwarp();
  out[blockIdx.x * blockDim.x + threadIdx.x] = row[31 - threadIdx.x];
}

template <bool kAtomic>
__global__ void count_blocks(int* counter) {
  if (threadIdx.x != 0) return;
  if constexpr (kAtomic) {
    atomicAdd(counter, 1);
  } else {
    *counter += 1;
  }
}

}  // namespace plume::PLUME_KERNELS
