// What an inner loop of the cpu device's own convolutions computes: a few rows times panels of 16 columns,
// and the epilogue while the sums are at hand. Only what the loops themselves need: one of them is compiled
// for AVX-512 as a whole, and nothing that other files share may be compiled with it.
#pragma once
#include <cstdint>

#include "engine/cpu/channel_epilogue.h"

namespace plume::cpu {

inline constexpr int kPanelColumns = 16;
inline constexpr int kMostPanelRows = 8;  // of any kernel

// Where a tile goes, and what happens to its sums:
//   out[r * pitch + c] = activation(sum[r][c] * scale[c] + shift[c] + residual[r * pitch + c])
// or, where it adds_last, the residual behind the activation.
// All pointers are those of the tile's first column.
struct TileOutput : ChannelEpilogue {
  float* out;
  int64_t pitch;
};

struct PanelKernel {
  const char* isa;
  int rows, columns;  // of its tile
  // sum[r][c] = sum over segments and depth of row_pointers[segment * count + r][d] * panels[segment][d][c]
  // for r < count <= rows and c < columns <= the kernel's; `panel_size` values lie from one panel to the
  // next.
  void (*multiply)(int count, int columns, const float* const* row_pointers, int segments, int64_t depth,
                   const float* panels, int64_t panel_size, const TileOutput& output);
};

#if defined(__x86_64__)
extern const PanelKernel panel_kernel_avx512;  // for processors that have it
#endif

}  // namespace plume::cpu
