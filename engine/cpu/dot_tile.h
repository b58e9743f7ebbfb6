// Rows of x times rows of w, both read along their length as they lie in memory, for a width of vectors that
// the including file chooses. A tile keeps its sums in registers over the whole length:
//
//   AVX2     4 x 3: twelve vectors of sums; a step of eight values loads seven for twelve multiply-adds
//   AVX-512  4 x 6: 24 vectors of sums; a step of sixteen values loads ten for 24
//
// Included by files that are compiled for different processors, as depthwise_row.h is.
#pragma once
#include <cstdint>

#include "engine/cpu/with_constant.h"

namespace plume::cpu {

inline constexpr int kDotRows = 4, kMostDotOutputs = 6;

struct DotTile {
  const float *x, *w;  // [rows, depth], [outputs, depth]
  int rows, outputs;   // at most kDotRows and the kernel's
  int64_t depth;
  float (*sums)[kMostDotOutputs];  // [rows]
};

struct DotKernel {
  int outputs;  // of a whole tile
  void (*run)(const DotTile&);
};

#if defined(__x86_64__)
extern const DotKernel dot_kernel_avx512;
#endif

// Halves are added until one lane is left.
template <class Lanes>
inline float sum_of_lanes(const typename Lanes::Vector& v) {
  float lanes[Lanes::kCount];
  Lanes::store(lanes, v);
#pragma GCC unroll 4
  for (int64_t half = Lanes::kCount / 2; half > 0; half /= 2)
#pragma GCC unroll 8
    for (int64_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}

template <class Lanes, int kRows, int kOutputs>
void dot_tile(const DotTile& t) {
  using Vector = typename Lanes::Vector;
  Vector sums[kRows][kOutputs] = {};
  int64_t c = 0;
  for (; c + Lanes::kCount <= t.depth; c += Lanes::kCount) {
    Vector b[kOutputs];
#pragma GCC unroll 6
    for (int j = 0; j < kOutputs; ++j) b[j] = Lanes::load(t.w + j * t.depth + c);
#pragma GCC unroll 4
    for (int i = 0; i < kRows; ++i) {
      const Vector a = Lanes::load(t.x + i * t.depth + c);
#pragma GCC unroll 6
      for (int j = 0; j < kOutputs; ++j) sums[i][j] += a * b[j];
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 6
    for (int j = 0; j < kOutputs; ++j) {
      float sum = sum_of_lanes<Lanes>(sums[i][j]);
      for (int64_t rest = c; rest < t.depth; ++rest) sum += t.x[i * t.depth + rest] * t.w[j * t.depth + rest];
      t.sums[i][j] = sum;
    }
}

// kOutputs: of a whole tile.
template <class Lanes, int kOutputs>
void any_dot_tile(const DotTile& t) {
  static_assert(kOutputs <= kMostDotOutputs);
  with_constant<kDotRows>(t.rows, [&](auto rows) {
    with_constant<kOutputs>(t.outputs, [&](auto outputs) { dot_tile<Lanes, rows, outputs>(t); });
  });
}

}  // namespace plume::cpu
