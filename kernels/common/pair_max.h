// Maxima of 16-bit values, two at once. A NaN wins, as in PyTorch's pooling.
#pragma once
#include <type_traits>

#include "kernels/common/vector.h"

namespace plume::PLUME_KERNELS {

// The larger ones of two pairs, or NaN.
template <class T>
__device__ __forceinline__ uint32_t larger_of_pairs(uint32_t a, uint32_t b) {
#if defined(__CUDA_ARCH__)
  uint32_t larger;
  if constexpr (std::is_same_v<T, bf16>)
    asm("max.NaN.bf16x2 %0, %1, %2;" : "=r"(larger) : "r"(a), "r"(b));
  else
    asm("max.NaN.f16x2 %0, %1, %2;" : "=r"(larger) : "r"(a), "r"(b));
  return larger;
#else
  float first[2], second[2];
  detail::widen_pair(T{}, a, first[0], first[1]);
  detail::widen_pair(T{}, b, second[0], second[1]);
  for (int i = 0; i < 2; ++i) first[i] = first[i] >= second[i] || first[i] != first[i] ? first[i] : second[i];
  return detail::narrow_pair(T{}, first[0], first[1]);
#endif
}

// Of as many as a pack has.
template <class T, int N>
__device__ __forceinline__ Pack<T, N> larger_of_packs(const Pack<T, N>& a, const Pack<T, N>& b) {
  uint32_t first[N / 2], second[N / 2];
  const auto words_a = a.word(), words_b = b.word();
  memcpy(first, &words_a, sizeof first);
  memcpy(second, &words_b, sizeof second);
#pragma unroll
  for (int i = 0; i < N / 2; ++i) first[i] = larger_of_pairs<T>(first[i], second[i]);
  typename Pack<T, N>::Word larger;
  memcpy(&larger, first, sizeof larger);
  return Pack<T, N>::of(larger);
}

// Twice the least value.
template <class T>
__device__ __forceinline__ uint32_t least_pair() {
  return std::is_same_v<T, bf16> ? 0xff80ff80u : 0xfc00fc00u;
}

}  // namespace plume::PLUME_KERNELS
