// The panel product for AVX-512 (panel_gemm.h); this file alone is compiled for it.
//
// Scale, shift, residual, ReLU and hardswish are applied to the sums in their registers, so that a tile is
// stored once. Other activations read it from a buffer, in whole vectors: what was stored with a mask would
// have to reach the cache before it can be loaded again, some hundred cycles later.
#include "engine/cpu/conv/panel_kernel.h"
#include "engine/cpu/with_constant.h"

#if defined(__x86_64__)
#include <immintrin.h>

namespace plume::cpu {
namespace {

constexpr int kRows = 8, kPanels = 3, kLanes = 16;
static_assert(kLanes == kPanelColumns);

// The lanes of a row's vector number `panel` that exist.
inline __mmask16 lanes(int columns, int panel) {
  const int count = columns - panel * kLanes;
  return count >= kLanes ? __mmask16(0xffff) : __mmask16((1u << count) - 1);
}

// Those that finish() applies.
constexpr bool is_cheap(Activation a) {
  return a == Activation::identity || a == Activation::relu || a == Activation::hardswish;
}

// Rows of a tile before their residual and activation, padded with what is no output.
using TileBuffer = float[kRows][kPanels * kLanes];

// By value: what a reference leads to would be loaded again after every store.
template <Activation kActivation>
void activate_rows(const TileBuffer& sums, int rows, int columns, TileOutput o) {
  using Vector16 = float __attribute__((vector_size(64)));
  for (int r = 0; r < rows; ++r)
    for (int p = 0; p * kLanes < columns; ++p) {
      const __mmask16 mask = lanes(columns, p);
      const int64_t at = r * o.pitch + p * kLanes;
      Vector16 v = _mm512_load_ps(&sums[r][p * kLanes]);
      if (o.residual && !o.adds_last) v += Vector16(_mm512_maskz_loadu_ps(mask, o.residual + at));
      v = activate(kActivation, v);
      if (o.adds_last) v += Vector16(_mm512_maskz_loadu_ps(mask, o.residual + at));
      if (mask == __mmask16(0xffff))
        _mm512_storeu_ps(o.out + at, v);
      else
        _mm512_mask_storeu_ps(o.out + at, mask, v);
    }
}

// sum += residual
template <int kR, int kP>
[[gnu::always_inline]] inline void add_residual(__m512 (&sum)[kR][kP], const __mmask16 (&mask)[kP],
                                                const TileOutput& o) {
#pragma GCC unroll 8
  for (int r = 0; r < kR; ++r)
#pragma GCC unroll 3
    for (int p = 0; p < kP; ++p)
      sum[r][p] =
          _mm512_add_ps(sum[r][p], _mm512_maskz_loadu_ps(mask[p], o.residual + r * o.pitch + p * kLanes));
}

// kWhole: the last panel has all its columns. Stores with masks are slow on some processors. `padded`: the
// output has room for the whole panel anyway.
template <bool kWhole, int kR, int kP>
[[gnu::always_inline]] inline void finish(__m512 (&sum)[kR][kP], int columns, const TileOutput& o,
                                          bool padded) {
  __mmask16 mask[kP];
#pragma GCC unroll 3
  for (int p = 0; p < kP; ++p) mask[p] = kWhole || p + 1 < kP ? __mmask16(0xffff) : lanes(columns, p);
#pragma GCC unroll 3
  for (int p = 0; p < kP; ++p) {
    const __m512 scale =
        o.scale ? _mm512_maskz_loadu_ps(mask[p], o.scale + p * kLanes) : _mm512_set1_ps(1.0f);
    const __m512 shift = o.shift ? _mm512_maskz_loadu_ps(mask[p], o.shift + p * kLanes) : _mm512_setzero_ps();
#pragma GCC unroll 8
    for (int r = 0; r < kR; ++r) sum[r][p] = _mm512_fmadd_ps(sum[r][p], scale, shift);
  }
  if (o.residual && !o.adds_last) add_residual(sum, mask, o);
  if (o.activation == Activation::relu)
#pragma GCC unroll 8
    for (int r = 0; r < kR; ++r)
#pragma GCC unroll 3
      for (int p = 0; p < kP; ++p)
        sum[r][p] = _mm512_max_ps(_mm512_setzero_ps(), sum[r][p]);  // the second where one is NaN
  if (o.activation == Activation::hardswish)
#pragma GCC unroll 8
    for (int r = 0; r < kR; ++r)
#pragma GCC unroll 3
      for (int p = 0; p < kP; ++p) sum[r][p] = activate(Activation::hardswish, sum[r][p]);
  if (o.adds_last) add_residual(sum, mask, o);
#pragma GCC unroll 8
  for (int r = 0; r < kR; ++r)
#pragma GCC unroll 3
    for (int p = 0; p < kP; ++p) {
      float* out = o.out + r * o.pitch + p * kLanes;
      if (kWhole || p + 1 < kP || padded)
        _mm512_storeu_ps(out, sum[r][p]);
      else
        _mm512_mask_storeu_ps(out, mask[p], sum[r][p]);
    }
}

// kHalf: of the last panel only the first eight columns are wanted, and computed.
template <int kR, int kP, bool kHalf>
void multiply(int columns, const float* const* rows, int segments, int64_t depth, const float* panel,
              int64_t panel_size, const TileOutput& output, bool padded) {
  constexpr int kWhole = kHalf ? kP - 1 : kP;
  __m512 sum[kR][kP];
  __m256 half[kR];
#pragma GCC unroll 8
  for (int r = 0; r < kR; ++r) {
    half[r] = _mm256_setzero_ps();
#pragma GCC unroll 3
    for (int p = 0; p < kP; ++p) sum[r][p] = _mm512_setzero_ps();
  }
  for (int segment = 0; segment < segments; ++segment, rows += kR) {
    const float* a[kR];
#pragma GCC unroll 8
    for (int r = 0; r < kR; ++r) a[r] = rows[r];
    for (int64_t d = 0; d < depth; ++d, panel += kPanelColumns) {
      __m512 b[kP];
#pragma GCC unroll 3
      for (int p = 0; p < kWhole; ++p) b[p] = _mm512_loadu_ps(panel + p * panel_size);
      const __m256 b_half = kHalf ? _mm256_loadu_ps(panel + kWhole * panel_size) : __m256{};
#pragma GCC unroll 8
      for (int r = 0; r < kR; ++r) {
        const __m512 value = _mm512_set1_ps(a[r][d]);
#pragma GCC unroll 3
        for (int p = 0; p < kWhole; ++p) sum[r][p] = _mm512_fmadd_ps(value, b[p], sum[r][p]);
        if (kHalf) half[r] = _mm256_fmadd_ps(_mm512_castps512_ps256(value), b_half, half[r]);
      }
    }
  }
  if (kHalf)
#pragma GCC unroll 8
    for (int r = 0; r < kR; ++r) sum[r][kP - 1] = _mm512_zextps256_ps512(half[r]);
  if (columns == kP * kLanes)
    finish<true>(sum, columns, output, padded);
  else
    finish<false>(sum, columns, output, padded);
}

void multiply_tile(int count, int columns, const float* const* rows, int segments, int64_t depth,
                   const float* panel, int64_t panel_size, const TileOutput& output, bool padded) {
  const int panels = (columns + kLanes - 1) / kLanes;
  const bool half = columns % kLanes != 0 && columns % kLanes <= kLanes / 2;
  with_constant<kRows>(count, [&](auto r) {
    with_constant<kPanels>(panels, [&](auto p) {
      if (half)
        multiply<r, p, true>(columns, rows, segments, depth, panel, panel_size, output, padded);
      else
        multiply<r, p, false>(columns, rows, segments, depth, panel, panel_size, output, padded);
    });
  });
}

void run(int count, int columns, const float* const* rows, int segments, int64_t depth, const float* panel,
         int64_t panel_size, const TileOutput& output) {
  if (is_cheap(output.activation))
    return multiply_tile(count, columns, rows, segments, depth, panel, panel_size, output, false);
  alignas(64) TileBuffer sums;
  TileOutput before{{output.scale, output.shift}, sums[0], kPanels * kLanes};
  multiply_tile(count, columns, rows, segments, depth, panel, panel_size, before, true);
  dispatch_activation(output.activation,
                      [&](auto kind) { activate_rows<kind>(sums, count, columns, output); });
}

}  // namespace

const PanelKernel panel_kernel_avx512{"avx512", kRows, kPanels* kLanes, run};

}  // namespace plume::cpu
#endif
