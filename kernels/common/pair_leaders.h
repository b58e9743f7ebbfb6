// Maxima and where they were met, of 16-bit values, two at once.
#pragma once
#include "kernels/common/pair_max.h"

namespace plume::PLUME_KERNELS {

// All bits of those halves of b that are larger than those of a.
template <class T>
__device__ __forceinline__ uint32_t where_larger(uint32_t a, uint32_t b) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  uint32_t where;
  if constexpr (std::is_same_v<T, bf16>)
    asm("set.gt.u32.bf16x2 %0, %1, %2;" : "=r"(where) : "r"(b), "r"(a));
  else
    asm("set.gt.u32.f16x2 %0, %1, %2;" : "=r"(where) : "r"(b), "r"(a));
  return where;
#else
  float first[2], second[2];
  detail::widen_pair(T{}, a, first[0], first[1]);
  detail::widen_pair(T{}, b, second[0], second[1]);
  return (second[0] > first[0] ? 0xffffu : 0u) | (second[1] > first[1] ? 0xffff0000u : 0u);
#endif
}

// Of each channel of a pack the largest value met so far, and which one it was, the first of equal ones: one
// and a half instructions for each value that is met. Where there is a NaN it wins, and the places are wrong.
template <class T, int kWidth, bool kPlaces = true>
class PairLeaders {
 public:
  using Vector = Pack<T, kWidth>;
  using Word = typename Vector::Word;

  __device__ void start(const Word& word, int place) {
    memcpy(pairs_, &word, sizeof word);
#pragma unroll
    for (int i = 0; i < kWidth / 2; ++i) places_[i] = twice(place);
  }
  __device__ void meet(const Word& word, int place) {
    uint32_t pairs[kWidth / 2];
    memcpy(pairs, &word, sizeof word);
#pragma unroll
    for (int i = 0; i < kWidth / 2; ++i) meet(i, pairs[i], twice(place));
  }
  // What others have met, whose places are `beyond` these.
  __device__ void meet(const PairLeaders& others, int beyond) {
#pragma unroll
    for (int i = 0; i < kWidth / 2; ++i) meet(i, others.pairs_[i], others.places_[i] + twice(beyond));
  }
  __device__ bool any_nan() const {
    float values[kWidth];
    this->values().widen(values);
    bool any = false;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) any |= values[i] != values[i];
    return any;
  }
  __device__ Word word() const {
    Word word;
    memcpy(&word, pairs_, sizeof word);
    return word;
  }
  __device__ Vector values() const { return Vector::of(word()); }
  __device__ Pack<uint8_t, kWidth> places() const {
    Pack<uint8_t, kWidth> places;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) places[i] = uint8_t(places_[i / 2] >> 16 * (i % 2));
    return places;
  }

 private:
  __device__ static uint32_t twice(int place) { return uint32_t(place) * 0x10001u; }
  __device__ void meet(int i, uint32_t pair, uint32_t places) {
    if (kPlaces) {
      const uint32_t now = where_larger<T>(pairs_[i], pair);
      places_[i] = (places_[i] & ~now) | (places & now);
    }
    pairs_[i] = larger_of_pairs<T>(pairs_[i], pair);
  }

  uint32_t pairs_[kWidth / 2], places_[kWidth / 2];
};

}  // namespace plume::PLUME_KERNELS
