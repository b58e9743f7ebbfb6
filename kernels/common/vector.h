// Pack<T, N>: N neighbouring values that move in one load or store.
//
// Pack<float, 4>, Pack<f16, 8>, Pack<uint8_t, 16> are 16 bytes: one vector instruction on the GPU. The
// address must be a multiple of the pack's size; launchers ask is_aligned() and fall back to N = 1.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

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
}  // namespace detail

template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  static_assert(N > 0 && (N & (N - 1)) == 0 && sizeof(T) * N <= 16, "a pack is one access of 1 to 16 bytes");
  using Word = typename detail::Word<int(sizeof(T)) * N>::type;

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

// For launchers: may `pointer` be read in packs of N?
template <int N, class T>
inline bool is_aligned(const T* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % (sizeof(T) * N) == 0;
}

}  // namespace plume::PLUME_KERNELS
