// Products of a few rows with panels of 16 columns: the inner loop of the cpu device's own convolutions.
//
// The right-hand side (a constant filter) is packed once in panels of 16 columns, so that the loop reads it
// in the order it lies in memory. A tile of sums stays in registers over the whole depth, and through the
// epilogue:
//
//   AVX2     6 rows x 16 columns: twelve vectors of eight sums, two of the panel, one broadcast value. Per
//            step of depth eight loads and twelve fused multiply-adds, two of either a cycle.
//   AVX-512  8 rows x 48 columns: 24 vectors of sixteen sums; eleven loads for 24 multiply-adds, so that the
//            loop also keeps pace with the second-level cache. A last half panel takes half vectors.
//
// Either way the bound is arithmetic, where the depth is not short: a tile's epilogue and store cost about as
// much as 16 steps of depth. Rows are given by pointers, so that they may lie anywhere: the pixels under one
// filter tap, say. A product goes over several segments of depth, each with its own row pointers ("indirect
// convolution", Dukhan 2019).
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "engine/cpu/conv/panel_kernel.h"
#include "engine/cpu/vector8.h"
#include "engine/math/epilogue.h"

namespace plume::cpu {

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t panel_count(int64_t columns) { return ceil_div(columns, kPanelColumns); }

// w [columns, depth], row-major, as [panel][depth][16]; the last panel is filled up with zeros.
std::vector<float> pack_panels(const float* w, int64_t columns, int64_t depth);

// Whether this processor has AVX-512 and PLUME_CPU_ISA=avx2 does not forbid it.
bool has_avx512();

// Those that this processor runs, best first.
const std::vector<PanelKernel>& panel_kernels();

inline const PanelKernel& panel_kernel() { return panel_kernels().front(); }

// The epilogue from channel `first` and the output's element `index` on.
inline ChannelEpilogue channel_epilogue(const EpilogueView<float>& e, int64_t first, int64_t index) {
  return {e.scale ? e.scale + first : nullptr, e.shift ? e.shift + first : nullptr,
          e.residual ? e.residual + index : nullptr, e.activation, e.adds_last};
}

}  // namespace plume::cpu
