#include "engine/cpu/conv/panel_gemm.h"

#include <cstdlib>
#include <string_view>

#include "engine/cpu/with_constant.h"

namespace plume::cpu {
namespace {

constexpr int kRows8 = 6;

// kVectors = 1: the first eight columns only.
template <int kRows, int kVectors>
void multiply8(const float* const* rows, int segments, int64_t depth, const float* panel,
               float (&sums)[kRows8][kPanelColumns]) {
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

// The epilogue of sums[i * pitch + c] for i < rows, c < columns.
void finish_tile(const float* sums, int pitch, int rows, int columns, const TileOutput& o) {
  dispatch_activation(o.activation, [&](auto kind) {
    int c = 0;
    for (; c + 8 <= columns; c += 8) {
      const Vector8 scale = o.scale ? load8(o.scale + c) : broadcast8(1.0f);
      const Vector8 shift = o.shift ? load8(o.shift + c) : Vector8{};
      for (int i = 0; i < rows; ++i) {
        const int64_t at = i * o.pitch + c;
        Vector8 v = load8(sums + i * pitch + c) * scale + shift;
        if (o.residual && !o.adds_last) v += load8(o.residual + at);
        v = activate(kind(), v);
        if (o.adds_last) v += load8(o.residual + at);
        store8(o.out + at, v);
      }
    }
    for (; c < columns; ++c)
      for (int i = 0; i < rows; ++i) {
        const int64_t at = i * o.pitch + c;
        const float v = sums[i * pitch + c] * (o.scale ? o.scale[c] : 1.0f) + (o.shift ? o.shift[c] : 0.0f);
        const float more = o.residual ? o.residual[at] : 0.0f;
        o.out[at] = o.adds_last ? activate(kind(), v) + more : activate(kind(), v + more);
      }
  });
}

void run8(int count, int columns, const float* const* rows, int segments, int64_t depth, const float* panel,
          int64_t, const TileOutput& output) {
  float sums[kRows8][kPanelColumns];
  with_constant<kRows8>(count, [&](auto n) {
    if (columns > 8)
      multiply8<n, 2>(rows, segments, depth, panel, sums);
    else
      multiply8<n, 1>(rows, segments, depth, panel, sums);
  });
  finish_tile(sums[0], kPanelColumns, count, columns, output);
}

std::vector<PanelKernel> find_kernels() {
  std::vector<PanelKernel> all;
#if defined(__x86_64__)
  if (has_avx512()) all.push_back(panel_kernel_avx512);
#endif
  all.push_back({"avx2", kRows8, kPanelColumns, run8});
  return all;
}

}  // namespace

bool has_avx512() {
#if defined(__x86_64__)
  static const bool has = [] {
    const char* isa = std::getenv("PLUME_CPU_ISA");
    return __builtin_cpu_supports("avx512vl") && !(isa && std::string_view(isa) == "avx2");
  }();
  return has;
#else
  return false;
#endif
}

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

}  // namespace plume::cpu
