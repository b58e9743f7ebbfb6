#include "engine/cpu/panel_gemm.h"

#include <cstdlib>
#include <string_view>
#include <type_traits>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace plume::cpu {
namespace {

// Calls f(integral constant n) for 1 <= n <= kMost.
template <int kMost, class F>
inline void with_constant(int n, F&& f) {
  if constexpr (kMost > 1)
    if (n < kMost) return with_constant<kMost - 1>(n, f);
  f(std::integral_constant<int, kMost>{});
}

// kVectors = 1: the first eight columns only.
template <int kRows, int kVectors>
void multiply8(const float* const* rows, int segments, int64_t depth, const float* panel, SumTile& sums) {
  Vector8 sum[kRows][kVectors] = {};
  for (int segment = 0; segment < segments; ++segment, rows += kRows) {
    const float* a[kRows];
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) a[r] = rows[r];
    for (int64_t d = 0; d < depth; ++d, panel += kPanelColumns) {
      Vector8 b[kVectors];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) b[v] = load8(panel + 8 * v);
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r) {
        const Vector8 value = broadcast8(a[r][d]);
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) sum[r][v] += value * b[v];
      }
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) store8(sums[r] + 8 * v, sum[r][v]);
}

constexpr int kRows8 = 6;
void run8(int count, int columns, const float* const* rows, int segments, int64_t depth, const float* panel,
          int64_t, SumTile& sums) {
  with_constant<kRows8>(count, [&](auto n) {
    if (columns > 8)
      multiply8<n, 2>(rows, segments, depth, panel, sums);
    else
      multiply8<n, 1>(rows, segments, depth, panel, sums);
  });
}

#if defined(__x86_64__)
constexpr int kRows16 = kTileRows, kPanels16 = kTileColumns / kPanelColumns;

template <int kRows, int kPanels>
__attribute__((target("avx512f"))) void multiply16(const float* const* rows, int segments, int64_t depth,
                                                   const float* panel, int64_t panel_size, SumTile& sums) {
  __m512 sum[kRows][kPanels];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 3
    for (int p = 0; p < kPanels; ++p) sum[r][p] = _mm512_setzero_ps();
  for (int segment = 0; segment < segments; ++segment, rows += kRows) {
    const float* a[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) a[r] = rows[r];
    for (int64_t d = 0; d < depth; ++d, panel += kPanelColumns) {
      __m512 b[kPanels];
#pragma GCC unroll 3
      for (int p = 0; p < kPanels; ++p) b[p] = _mm512_loadu_ps(panel + p * panel_size);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const __m512 value = _mm512_set1_ps(a[r][d]);
#pragma GCC unroll 3
        for (int p = 0; p < kPanels; ++p) sum[r][p] = _mm512_fmadd_ps(value, b[p], sum[r][p]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 3
    for (int p = 0; p < kPanels; ++p) _mm512_storeu_ps(sums[r] + 16 * p, sum[r][p]);
}

void run16(int count, int columns, const float* const* rows, int segments, int64_t depth, const float* panel,
           int64_t panel_size, SumTile& sums) {
  with_constant<kRows16>(count, [&](auto n) {
    with_constant<kPanels16>(int(panel_count(columns)), [&](auto panels) {
      multiply16<n, panels>(rows, segments, depth, panel, panel_size, sums);
    });
  });
}
#endif

std::vector<PanelKernel> find_kernels() {
  std::vector<PanelKernel> all;
#if defined(__x86_64__)
  // PLUME_CPU_ISA=avx2: as on a processor without AVX-512.
  const char* isa = std::getenv("PLUME_CPU_ISA");
  if (__builtin_cpu_supports("avx512f") && !(isa && std::string_view(isa) == "avx2"))
    all.push_back({"avx512", kRows16, kTileColumns, run16});
#endif
  all.push_back({"avx2", kRows8, kPanelColumns, run8});
  return all;
}

}  // namespace

std::vector<float> pack_panels(const float* w, int64_t columns, int64_t depth) {
  std::vector<float> packed(size_t(panel_count(columns) * depth * kPanelColumns), 0.0f);
  for (int64_t k = 0; k < columns; ++k) {
    float* to = packed.data() + k / kPanelColumns * depth * kPanelColumns + k % kPanelColumns;
    for (int64_t d = 0; d < depth; ++d) to[d * kPanelColumns] = w[k * depth + d];
  }
  return packed;
}

const std::vector<PanelKernel>& panel_kernels() {
  static const std::vector<PanelKernel> all = find_kernels();
  return all;
}

const PanelKernel& panel_kernel(int64_t columns) {
  const std::vector<PanelKernel>& all = panel_kernels();
  if (all.size() == 1) return all.front();
  // Eight columns take AVX2 two thirds of a panel's time: six sums do not hide the latency of the additions.
  constexpr double kHalfPanel = 0.67, kAdvantage = 1.05;
  const int64_t rest = columns % kPanelColumns;
  const double avx2 = double(columns / kPanelColumns) + (rest == 0 ? 0.0 : rest <= 8 ? kHalfPanel : 1.0);
  return avx2 * kAdvantage < double(panel_count(columns)) ? all.back() : all.front();
}

}  // namespace plume::cpu
