// One-warp and four-warp matrix products through kernels/common/mma.h. Also compiled by nvcc for the device
// tests.
#pragma once
#include "kernels/common/mma.h"
#include "kernels/common/vector.h"

namespace plume::PLUME_KERNELS {

template <class T, int kRows, int kColumns>
struct alignas(16) Tile {  // ldmatrix wants rows at multiples of 16 bytes
  T at[kRows][kColumns];
};

// c[16][8] = a[16][16] b[16][8], fragments filled by hand from row-major global memory.
template <class T>
__global__ void mma_by_hand(const T* a, const T* b, float* c) {
  const int lane = int(threadIdx.x), group = lane / 4, pair = lane % 4;
  const auto two = [](T low, T high) { return uint32_t(low.bits) | uint32_t(high.bits) << 16; };
  uint32_t fa[4], fb[2];
  for (int i = 0; i < 4; ++i) {
    const T* from = a + (group + 8 * (i % 2)) * 16 + 2 * pair + 8 * (i / 2);
    fa[i] = two(from[0], from[1]);
  }
  for (int i = 0; i < 2; ++i) {
    const T* from = b + (2 * pair + 8 * i) * 8 + group;
    fb[i] = two(from[0], from[8]);
  }
  float d[4] = {};
  mma_m16n8k16(T{}, d, fa, fb);
  for (int i = 0; i < 4; ++i) c[(group + 8 * (i / 2)) * 8 + 2 * pair + i % 2] = d[i];
}

// The same through shared memory and ldmatrix; b is [k][n], so its fragments come transposed.
template <class T>
__global__ void mma_by_ldmatrix(const T* a, const T* b, float* c) {
  SMEM(sa, Tile<T, 16, 24>);
  SMEM(sb, Tile<T, 16, 8>);
  const int lane = int(threadIdx.x);
  for (int i = lane; i < 256; i += 32) sa.at[i / 16][i % 16] = a[i];
  for (int i = lane; i < 128; i += 32) sb.at[i / 8][i % 8] = b[i];
  __syncwarp();
  uint32_t fa[4], fb[2];
  ldmatrix_x4(fa, &sa.at[lane % 16][lane / 16 * 8]);
  ldmatrix_x2_trans(fb, &sb.at[lane % 16][0]);
  float d[4] = {};
  mma_m16n8k16(T{}, d, fa, fb);
  for (int i = 0; i < 4; ++i) c[(lane / 4 + 8 * (i / 2)) * 8 + lane % 4 * 2 + i % 2] = d[i];
}

// c[16][8] = a[16][8] b[8][8] in tf32.
[[maybe_unused]] static __global__ void mma_tf32(const float* a, const float* b, float* c) {
  const int lane = int(threadIdx.x), group = lane / 4, pair = lane % 4;
  uint32_t fa[4], fb[2];
  for (int i = 0; i < 4; ++i) fa[i] = to_tf32(a[(group + 8 * (i % 2)) * 8 + pair + 4 * (i / 2)]);
  for (int i = 0; i < 2; ++i) fb[i] = to_tf32(b[(pair + 4 * i) * 8 + group]);
  float d[4] = {};
  mma_m16n8k8_tf32(d, fa, fb);
  for (int i = 0; i < 4; ++i) c[(group + 8 * (i / 2)) * 8 + 2 * pair + i % 2] = d[i];
}

}  // namespace plume::PLUME_KERNELS
