// Pack<T, N>: N neighbouring values that move in one load or store.
//
// Pack<float, 4>, Pack<f16, 8>, Pack<uint8_t, 16> are 16 bytes: one vector instruction on the GPU. The
// address must be a multiple of the pack's size; launchers ask is_aligned() and fall back to N = 1.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "engine/core/half.h"
#include "kernels/simt/simt.h"

namespace plume::PLUME_KERNELS {

// Values of T in one 16-byte access.
template <class T>
inline constexpr int kVectorWidth = 16 / int(sizeof(T));

namespace detail {
template <int kBytes>
struct Word;
template <>
struct Word<1> {
  using type = unsigned char;
};
template <>
struct Word<2> {
  using type = unsigned short;
};
template <>
struct Word<4> {
  using type = unsigned;
};
template <>
struct Word<8> {
  using type = uint2;
};
template <>
struct Word<16> {
  using type = uint4;
};

// The two 16-bit values of a word, the first one in its lower half.
__device__ __forceinline__ void widen_pair(bf16, uint32_t pair, float& first, float& second) {
  first = plume::detail::bits_as<float>(pair << 16);
  second = plume::detail::bits_as<float>(pair & 0xffff0000u);
}
__device__ __forceinline__ void widen_pair(f16, uint32_t pair, float& first, float& second) {
#if defined(__CUDA_ARCH__)
  asm("{ .reg .b16 low, high; mov.b32 {low, high}, %2; cvt.f32.f16 %0, low; cvt.f32.f16 %1, high; }"
      : "=f"(first), "=f"(second)
      : "r"(pair));
#else
  first = plume::detail::f16_to_f32(uint16_t(pair)), second = plume::detail::f16_to_f32(uint16_t(pair >> 16));
#endif
}
__device__ __forceinline__ uint32_t narrow_pair(bf16, float first, float second) {
#if defined(__CUDA_ARCH__)
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
#else
  return bf16(first).bits | uint32_t(bf16(second).bits) << 16;
#endif
}
__device__ __forceinline__ uint32_t narrow_pair(f16, float first, float second) {
#if defined(__CUDA_ARCH__)
  uint32_t pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
#else
  return f16(first).bits | uint32_t(f16(second).bits) << 16;
#endif
}
}  // namespace detail

template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  static_assert(N > 0 && (N & (N - 1)) == 0 && sizeof(T) * N <= 16, "a pack is one access of 1 to 16 bytes");
  using Word = typename detail::Word<int(sizeof(T)) * N>::type;
  static constexpr bool kPaired = (std::is_same_v<T, f16> || std::is_same_v<T, bf16>)&&N % 2 == 0;

  T values[N];

  __device__ T& operator[](int i) { return values[i]; }
  __device__ const T& operator[](int i) const { return values[i]; }

#if defined(PLUME_COUNTERS)
  // The counters see one access per pack; copies are accesses where a side is shared memory.
  Pack() = default;
  Pack(const Pack& other) { simt::emu::counted_move<Word>(values, other.values); }
  Pack& operator=(const Pack& other) {
    simt::emu::counted_move<Word>(values, other.values);
    return *this;
  }
  static Pack load(const T* from, SIMT_WHERE) {
    Pack pack;
    simt::emu::counted_move<Word>(pack.values, from, where);
    return pack;
  }
  void store(T* to, SIMT_WHERE) const { simt::emu::counted_move<Word>(to, values, where); }
#else
  // Through an integer word, so that the compiler cannot split the access.
  __device__ static Pack load(const T* from) {
    Pack pack;
    *reinterpret_cast<Word*>(pack.values) = *reinterpret_cast<const Word*>(from);
    return pack;
  }
  __device__ void store(T* to) const {
    *reinterpret_cast<Word*>(to) = *reinterpret_cast<const Word*>(values);
  }
#endif
  // The values as floats. Two of 16 bits are widened where they lie in their word, an instruction each; one
  // by one each would be cut out of it first.
  __device__ static void widen(const Word& word, float (&to)[N]) {
    if constexpr (kPaired) {
      uint32_t pairs[N / 2];
      memcpy(pairs, &word, sizeof word);
#pragma unroll
      for (int i = 0; i < N; i += 2) detail::widen_pair(T{}, pairs[i / 2], to[i], to[i + 1]);
    } else {
      const Pack pack = of(word);
#pragma unroll
      for (int i = 0; i < N; ++i) to[i] = float(pack.values[i]);
    }
  }
  __device__ void widen(float (&to)[N]) const { widen(word(), to); }
  // And floats as values, rounded likewise.
  __device__ static Pack narrow(const float (&from)[N]) {
    Pack pack;
    if constexpr (kPaired) {
      uint32_t pairs[N / 2];
#pragma unroll
      for (int i = 0; i < N; i += 2) pairs[i / 2] = detail::narrow_pair(T{}, from[i], from[i + 1]);
      memcpy(pack.values, pairs, sizeof pack);
    } else {
#pragma unroll
      for (int i = 0; i < N; ++i) pack.values[i] = T(from[i]);
    }
    return pack;
  }

  // The same bits as one word. A pack that is kept for a while is kept as its word: of an array of 16-bit
  // values the compiler makes one register for each as soon as they are loaded, and so waits for the load.
  __device__ Word word() const {
    Word word;
    memcpy(&word, values, sizeof word);
    return word;
  }
  __device__ static Pack of(const Word& word) {
    Pack pack;
    memcpy(pack.values, &word, sizeof word);
    return pack;
  }

  __device__ static Pack filled(T value) {
    Pack pack;
#pragma unroll
    for (int i = 0; i < N; ++i) pack.values[i] = value;
    return pack;
  }
};

// The compiler takes these for new values: it keeps them in their registers, and computes what depends on
// them where that is used, instead of the other way round.
__device__ __forceinline__ void keep([[maybe_unused]] float& value) {
#if defined(__CUDA_ARCH__)
  asm volatile("" : "+f"(value));
#endif
}
__device__ __forceinline__ void keep([[maybe_unused]] int& value) {
#if defined(__CUDA_ARCH__)
  asm volatile("" : "+r"(value));
#endif
}
template <class T>
__device__ __forceinline__ void keep([[maybe_unused]] T*& pointer) {  // to global memory
#if defined(__CUDA_ARCH__)
  asm volatile("" : "+l"(pointer));
  __builtin_assume(__isGlobal(pointer));
#endif
}
template <class Value, int kCount>
__device__ __forceinline__ void keep(Value (&values)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) keep(values[i]);
}

// For launchers: may `pointer` be read in packs of N?
template <int N, class T>
inline bool is_aligned(const T* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % (sizeof(T) * N) == 0;
}

}  // namespace plume::PLUME_KERNELS
