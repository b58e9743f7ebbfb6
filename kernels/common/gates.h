// Channels times the gates of their image, within shared memory: gates are rounded to 16 bits first, so that
// two products take one instruction.
#pragma once
#include "kernels/common/matrix_plan.h"
#include "kernels/common/vector.h"

namespace plume::PLUME_KERNELS {

// Two values of 16 bits in a word: of floats, and a product, rounded once.
template <class T>
__device__ __forceinline__ uint32_t gate_pair(float low, float high) {
  const float both[2] = {low, high};
  return Pack<T, 2>::narrow(both).word();
}
#if SIMT_EMU
template <class T>
inline uint32_t multiply_pairs(T, uint32_t a, uint32_t b) {
  const auto left = Pack<T, 2>::of(a), right = Pack<T, 2>::of(b);
  return gate_pair<T>(float(left.values[0]) * float(right.values[0]),
                      float(left.values[1]) * float(right.values[1]));
}
#else
__device__ __forceinline__ uint32_t multiply_pairs(f16, uint32_t a, uint32_t b) {
  uint32_t product;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(product) : "r"(a), "r"(b));
  return product;
}
__device__ __forceinline__ uint32_t multiply_pairs(bf16, uint32_t a, uint32_t b) {
  constexpr uint32_t kMinusZeros = 0x80008000u;  // sm_80 has no product without a sum
  uint32_t product;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(product) : "r"(a), "r"(b), "r"(kMinusZeros));
  return product;
}
#endif

struct Gates {
  const float* values;  // [images, channels]
  FastDivide by_plane;
};

// The gates of a chunk of channels.
template <class T>
struct ChunkGates {
  using Chunk = Pack<T, kChunk>;
  // As they are on their way from memory.
  struct Words {
    typename Pack<float, 4>::Word word[kChunk / 4] = {};

    __device__ __forceinline__ void fetch(const float* from) {
#pragma unroll
      for (int part = 0; part < kChunk / 4; ++part) word[part] = Pack<float, 4>::load(from + 4 * part).word();
    }
  };
  uint32_t factors[kChunk / 2] = {};

  ChunkGates() = default;
  __device__ __forceinline__ explicit ChunkGates(const Words& words) {
#pragma unroll
    for (int part = 0; part < kChunk / 4; ++part) {
      float four[4];
      Pack<float, 4>::widen(words.word[part], four);
      factors[2 * part] = gate_pair<T>(four[0], four[1]);
      factors[2 * part + 1] = gate_pair<T>(four[2], four[3]);
    }
  }
  __device__ __forceinline__ void multiply(char* chunk) const {
    T* const at = reinterpret_cast<T*>(chunk);
    uint4 words = Chunk::load(at).word();
    words.x = multiply_pairs(T{}, words.x, factors[0]);
    words.y = multiply_pairs(T{}, words.y, factors[1]);
    words.z = multiply_pairs(T{}, words.z, factors[2]);
    words.w = multiply_pairs(T{}, words.w, factors[3]);
    Chunk::of(words).store(at);
  }
};

}  // namespace plume::PLUME_KERNELS
