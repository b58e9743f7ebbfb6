// The inner loop of the cpu device's own convolutions: a few rows times a panel of 16 columns.
//
// The right-hand side (a constant filter) is packed once in panels of 16 columns, so that the loop reads it
// in the order it lies in memory. Six rows by sixteen columns keep twelve vectors of sums in registers: with
// two vectors of the panel and one broadcast value they fill AVX2's sixteen, and twelve independent sums hide
// the latency of two fused multiply-adds per cycle. Per step of depth: two loads of the panel, six
// broadcasts, twelve fused multiply-adds; the bound is arithmetic as long as the panel is in the caches.
//
// Rows are given by pointers, so that they may lie anywhere: the pixels under one filter tap, say. A product
// goes over several segments of depth, each with its own row pointers ("indirect convolution", Dukhan 2019).
#pragma once
#include <cstdint>
#include <vector>

#include "engine/math/epilogue.h"

namespace plume::cpu {

inline constexpr int kPanelColumns = 16, kPanelRows = 6;

using Vector8 = float __attribute__((vector_size(32)));
using Vector8Memory = float __attribute__((vector_size(32), aligned(4), may_alias));
inline Vector8 load8(const float* p) { return *reinterpret_cast<const Vector8Memory*>(p); }
inline void store8(float* p, Vector8 v) { *reinterpret_cast<Vector8Memory*>(p) = v; }
inline Vector8 broadcast8(float v) { return Vector8{v, v, v, v, v, v, v, v}; }

inline int64_t panel_count(int64_t columns) { return (columns + kPanelColumns - 1) / kPanelColumns; }

// w [columns, depth], row-major, as [panel][depth][16]; the last panel is filled up with zeros.
inline std::vector<float> pack_panels(const float* w, int64_t columns, int64_t depth) {
  std::vector<float> packed(size_t(panel_count(columns) * depth * kPanelColumns), 0.0f);
  for (int64_t k = 0; k < columns; ++k) {
    float* to = packed.data() + k / kPanelColumns * depth * kPanelColumns + k % kPanelColumns;
    for (int64_t d = 0; d < depth; ++d) to[d * kPanelColumns] = w[k * depth + d];
  }
  return packed;
}

// sums[r][:] = sum over segments and depth of rows[segment * kRows + r][d] * panel[segment][d][:]
template <int kRows>
inline void multiply_panel(const float* const* rows, int segments, int64_t depth, const float* panel,
                           float (&sums)[kPanelRows][kPanelColumns]) {
  Vector8 left[kRows], right[kRows];
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) left[r] = right[r] = Vector8{};
  for (int segment = 0; segment < segments; ++segment, rows += kRows) {
    const float* a[kRows];
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) a[r] = rows[r];
    for (int64_t d = 0; d < depth; ++d, panel += kPanelColumns) {
      const Vector8 b0 = load8(panel), b1 = load8(panel + 8);
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r) {
        const Vector8 value = broadcast8(a[r][d]);
        left[r] += value * b0;
        right[r] += value * b1;
      }
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
    store8(sums[r], left[r]);
    store8(sums[r] + 8, right[r]);
  }
}

// The same for a number of rows known at run time only, 1 to 6.
inline void multiply_panel(int count, const float* const* rows, int segments, int64_t depth,
                           const float* panel, float (&sums)[kPanelRows][kPanelColumns]) {
  switch (count) {
    case 6:
      return multiply_panel<6>(rows, segments, depth, panel, sums);
    case 5:
      return multiply_panel<5>(rows, segments, depth, panel, sums);
    case 4:
      return multiply_panel<4>(rows, segments, depth, panel, sums);
    case 3:
      return multiply_panel<3>(rows, segments, depth, panel, sums);
    case 2:
      return multiply_panel<2>(rows, segments, depth, panel, sums);
    default:
      return multiply_panel<1>(rows, segments, depth, panel, sums);
  }
}

// out[0..count) = epilogue(values) for channels first..first+count-1, count <= 16; `index` is the place of
// out[0] in the output.
template <Activation kActivation>
inline void finish_columns(const float* values, const EpilogueView<float>& e, int64_t first, int count,
                           int64_t index, float* out) {
  float v[kPanelColumns];
  for (int i = 0; i < kPanelColumns; ++i) v[i] = values[i];
  if (count == kPanelColumns) {  // fixed lengths become vectors
    if (e.scale)
      for (int i = 0; i < kPanelColumns; ++i) v[i] *= e.scale[first + i];
    if (e.shift)
      for (int i = 0; i < kPanelColumns; ++i) v[i] += e.shift[first + i];
    if (e.residual)
      for (int i = 0; i < kPanelColumns; ++i) v[i] += e.residual[index + i];
    for (int i = 0; i < kPanelColumns; ++i) out[i] = activate(kActivation, v[i]);
  } else {
    for (int i = 0; i < count; ++i) out[i] = e(v[i], int(first) + i, index + i);
  }
}

inline void finish_columns(const float* values, const EpilogueView<float>& e, int64_t first, int count,
                           int64_t index, float* out) {
  dispatch_activation(e.activation,
                      [&](auto kind) { finish_columns<kind>(values, e, first, count, index, out); });
}

}  // namespace plume::cpu
