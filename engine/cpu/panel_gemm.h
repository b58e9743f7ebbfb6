// The inner loop of the cpu device's own convolutions: a few rows times panels of 16 columns.
//
// The right-hand side (a constant filter) is packed once in panels of 16 columns, so that the loop reads it
// in the order it lies in memory. A tile of sums stays in registers over the whole depth:
//
//   AVX2     6 rows x 16 columns: twelve vectors of eight sums, two of the panel, one broadcast value. Per
//            step of depth eight loads and twelve fused multiply-adds, two of either a cycle.
//   AVX-512  8 rows x 48 columns: 24 vectors of sixteen sums; eleven loads for 24 multiply-adds, so that the
//            loop also keeps pace with the second-level cache.
//
// Either way the bound is arithmetic. Rows are given by pointers, so that they may lie anywhere: the pixels
// under one filter tap, say. A product goes over several segments of depth, each with its own row pointers
// ("indirect convolution", Dukhan 2019).
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "engine/cpu/vector8.h"
#include "engine/math/epilogue.h"

namespace plume::cpu {

inline constexpr int kPanelColumns = 16;

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t panel_count(int64_t columns) { return ceil_div(columns, kPanelColumns); }

// w [columns, depth], row-major, as [panel][depth][16]; the last panel is filled up with zeros.
std::vector<float> pack_panels(const float* w, int64_t columns, int64_t depth);

// A tile of sums, as large as the largest kernel's.
inline constexpr int kTileRows = 8, kTileColumns = 48;
using SumTile = float[kTileRows][kTileColumns];

struct PanelKernel {
  const char* isa;
  int rows, columns;  // of its tile
  // sums[r][c] = sum over segments and depth of row_pointers[segment * count + r][d] * panels[segment][d][c]
  // for count <= rows and columns <= the kernel's; `panel_size` values lie from one panel to the next.
  void (*multiply)(int count, int columns, const float* const* row_pointers, int segments, int64_t depth,
                   const float* panels, int64_t panel_size, SumTile& sums);
};

// Those that this processor runs, best first.
const std::vector<PanelKernel>& panel_kernels();

// The one that wastes least on a product this wide: AVX-512 always computes whole panels.
const PanelKernel& panel_kernel(int64_t columns);

// out[0..8) = epilogue(v) for channels first..first+7; `index` is the place of out[0] in the output.
template <Activation kActivation>
inline void finish8(Vector8 v, const EpilogueView<float>& e, int64_t first, int64_t index, float* out) {
  if (e.scale) v *= load8(e.scale + first);
  if (e.shift) v += load8(e.shift + first);
  if (e.residual) v += load8(e.residual + index);
  store8(out, activate(kActivation, v));
}

// y[place(i) + c] = epilogue(sums[i * pitch + c]) for c < columns, channels from `first` on, and i < rows.
template <class Place>
inline void finish_rows(const float* sums, int pitch, int rows, const EpilogueView<float>& e, int64_t first,
                        int columns, const Place& place, float* y) {
  dispatch_activation(e.activation, [&](auto kind) {
    int done = 0;
    for (; done + 8 <= columns; done += 8) {
      const Vector8 scale = e.scale ? load8(e.scale + first + done) : broadcast8(1.0f);
      const Vector8 shift = e.shift ? load8(e.shift + first + done) : Vector8{};
      for (int i = 0; i < rows; ++i) {
        const int64_t at = place(i) + done;
        Vector8 v = load8(sums + i * pitch + done) * scale + shift;
        if (e.residual) v += load8(e.residual + at);
        store8(y + at, activate(kind(), v));
      }
    }
    for (; done < columns; ++done)
      for (int i = 0; i < rows; ++i) {
        const int64_t at = place(i) + done;
        y[at] = e(sums[i * pitch + done], int(first) + done, at);
      }
  });
}

}  // namespace plume::cpu
