// Kernels whose memory traffic can be worked out by hand.
#pragma once
#include "kernels/common/mma.h"
#include "kernels/common/vector.h"
#include "kernels/common/warp_reduce.h"

namespace plume::PLUME_KERNELS {

// Each lane reads in[lane * stride + offset] and writes out[lane].
[[maybe_unused]] static __global__ void counted_strided(const float* in, int stride, int offset, float* out) {
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
  out[i] = in[i * stride + offset];
}

template <class T>
__global__ void counted_values(const T* in, T* out) {
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
  out[i] = in[i];
}

// Packs `stride` packs apart.
template <class T, int N>
__global__ void counted_packs(const T* in, int stride, T* out) {
  const int i = int(threadIdx.x);
  Pack<T, N>::load(in + i * stride * N).store(out + i * N);
}

[[maybe_unused]] static __global__ void counted_broadcast(const float* in, float* out) {
  out[threadIdx.x] = in[0] + 1.0f;
}

// The lanes at multiples of `every` alone.
[[maybe_unused]] static __global__ void counted_some_lanes(const float* in, int every, float* out) {
  const int i = int(threadIdx.x);
  if (i % every == 0) out[i] = in[i];
}

[[maybe_unused]] static __global__ void counted_first_lanes(const float* in, int lanes, float* out) {
  const int i = int(threadIdx.x);
  if (i >= lanes) return;
  out[i] = in[i];
}

// Either side of a branch, then together again.
[[maybe_unused]] static __global__ void counted_branch(const float* a, const float* b, float* out) {
  const int i = int(threadIdx.x);
  float value;
  if (i < 16) {
    value = a[i];
  } else {
    value = b[i] * 2.0f;
  }
  out[i] = value;
}

// Lane i takes i turns; the line after the loop is one request.
[[maybe_unused]] static __global__ void counted_turns(const float* in, float* out) {
  const int i = int(threadIdx.x);
  float sum = 0.0f;
  for (int k = 0; k < i; ++k) sum += in[32 * k + i];
  out[i] = sum;
}

// Lanes skip different turns: turn k's loads stay one request.
[[maybe_unused]] static __global__ void counted_skipped_turns(const float* in, int turns, float* out) {
  const int i = int(threadIdx.x);
  float sum = 0.0f;
  for (int k = 0; k < turns; ++k) {
    if (i % turns == k) continue;
    sum += in[32 * k + i];
  }
  out[i] = sum;
}

// Nested: the outer halves meet after the inner quarters have met.
[[maybe_unused]] static __global__ void counted_nested(const float* in, float* out) {
  const int i = int(threadIdx.x);
  float value = 1.0f;
  if (i < 16) {
    if (i < 8) value = in[i] + 3.0f;
    value *= in[32 + i];
  }
  out[i] = value;
}

// Shared memory, word `lane * stride` each, written and read.
[[maybe_unused]] static __global__ void counted_shared_stride(int stride, float* out) {
  SMEM(words, float[32 * 32]);
  const int i = int(threadIdx.x);
  words[i * stride] = 1.0f;
  __syncthreads();
  out[i] = words[i * stride];
}

[[maybe_unused]] static __global__ void counted_shared_one_word(float* out) {
  SMEM(words, float[32]);
  const int i = int(threadIdx.x);
  words[i] = 1.0f;
  __syncthreads();
  out[i] = words[7];
}

// 16-byte packs in rows of kRow values: eight lanes are a turn.
template <int kRow>
__global__ void counted_shared_packs(f16* out) {
  struct alignas(16) Tile {
    f16 at[32][kRow];
  };
  SMEM(tile, Tile);
  const int i = int(threadIdx.x);
  const auto pack = Pack<f16, 8>::filled(f16(1.0f));
  pack.store(&tile.at[i][0]);
  __syncthreads();
  Pack<f16, 8>::load(&tile.at[i][0]).store(out + 8 * i);
}

// Packs as elements of shared memory, copied and not loaded.
[[maybe_unused]] static __global__ void counted_pack_array(const f16* in, f16* out) {
  using Vector = Pack<f16, 8>;
  SMEM(tile, Vector[32]);
  const int i = int(threadIdx.x);
  tile[i] = Vector::load(in + 8 * i);
  __syncthreads();
  const Vector mine = tile[i];
  mine.store(out + 8 * i);
}

template <int kRow>
__global__ void counted_ldmatrix(uint32_t* out) {
  struct alignas(16) Tile {
    f16 at[16][kRow];
  };
  SMEM(tile, Tile);
  const int lane = int(threadIdx.x);
  uint32_t r[4];
  ldmatrix_x4(r, &tile.at[lane % 16][lane / 16 * 8]);
  out[lane] = r[0] + r[1] + r[2] + r[3];
}

[[maybe_unused]] static __global__ void counted_ldmatrix_two(uint32_t* out) {
  struct alignas(16) Tile {
    f16 at[16][8];
  };
  SMEM(tile, Tile);
  const int lane = int(threadIdx.x);
  uint32_t r[2];
  ldmatrix_x2(r, &tile.at[lane % 16][0]);
  out[lane] = r[0] + r[1];
}

[[maybe_unused]] static __global__ void counted_mma(float* out) {
  const uint32_t a[4] = {}, b[2] = {};
  float d[4] = {};
  for (int i = 0; i < 3; ++i) mma_m16n8k16(f16{}, d, a, b);
  out[threadIdx.x] = d[0];
}

// One address, one per lane, or one per pair of lanes.
[[maybe_unused]] static __global__ void counted_atomics(int* counts, int lanes_per_address) {
  atomicAdd(&counts[int(threadIdx.x) / lanes_per_address], 1);
}
[[maybe_unused]] static __global__ void counted_shared_atomics(int* out) {
  SMEM(counts, int[32]);
  const int i = int(threadIdx.x);
  counts[i] = 0;
  __syncthreads();
  atomicAdd(&counts[i % 4], 1);
  __syncthreads();
  out[i] = counts[i];
}

[[maybe_unused]] static __global__ void counted_reduction(const float* in, float* out) {
  const float sum = block_sum<64>(in[threadIdx.x]);
  if (threadIdx.x == 0) *out = sum;
}

// Reads `rounds` times the same `words` words per lane.
[[maybe_unused]] static __global__ void counted_again(const float* in, int words, int rounds, float* out) {
  const int i = int(threadIdx.x);
  float sum = 0.0f;
  for (int round = 0; round < rounds; ++round)
    for (int k = 0; k < words; ++k) sum += in[k * 32 + i];
  out[i] = sum;
}

// Two loads that may be on their way at once, then two that may not.
[[maybe_unused]] static __global__ void counted_in_flight(const float* in, float* out) {
  const int i = int(threadIdx.x);
  out[i] = in[i] + in[32 + i];
  out[32 + i] = in[64 + i];
  out[64 + i] = in[96 + i];
}

// 16-byte copies, of which the first `lanes` lanes read anything.
template <bool kCached>
__global__ void counted_async_copy(const float* in, unsigned lanes, float* out) {
  struct alignas(16) Row {
    float at[128];
  };
  SMEM(row, Row);
  const unsigned i = threadIdx.x;
  simt::async_copy<16, kCached>(&row.at[4 * i], in + 4 * i, i < lanes ? 16 : 0);
  simt::async_commit();
  simt::async_wait<0>();
  out[i] = row.at[4 * i];
}

// Three groups of a word a lane: the first wait leaves two on their way.
[[maybe_unused]] static __global__ void counted_async_groups(const float* in, float* out) {
  SMEM(row, float[96]);
  const unsigned i = threadIdx.x;
  for (unsigned group = 0; group < 3; ++group) {
    simt::async_copy<4>(&row[32 * group + i], in + 32 * group + i);
    simt::async_commit();
  }
  simt::async_wait<2>();
  __syncthreads();
  out[i] = row[i];
  simt::async_wait<0>();
  out[32 + i] = row[64 + i];
}

// Blocks of two kinds: every fourth one does four times the work.
[[maybe_unused]] static __global__ void counted_uneven_blocks(const float* in, float* out) {
  const int i = int(threadIdx.x), turns = blockIdx.x % 4 == 0 ? 4 : 1;
  float sum = 0.0f;
  for (int k = 0; k < turns; ++k) sum += in[(int(blockIdx.x) * 4 + k) * 32 + i];
  out[int(blockIdx.x) * 32 + i] = sum;
}

}  // namespace plume::PLUME_KERNELS
