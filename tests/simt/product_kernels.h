// Products on the matrix core without an operation around them.
#pragma once
#include "kernels/common/matrix_operands.h"
#include "kernels/conv2d_strips.h"

namespace plume::PLUME_KERNELS {

template <int kRows, bool kDepthMajor>
struct OperandOf {
  using type = MatrixRows<bf16, kRows>;
  __device__ static type make(const bf16* data, int rows, int depth) { return type(data, rows, depth); }
};
template <int kRows>
struct OperandOf<kRows, false> {
  using type = MatrixLayers<bf16, kRows, true>;
  __device__ static type make(const bf16* data, int rows, int depth) { return type(data, rows, depth, true); }
};

// partial[slice, row, column]; a and b are [rows, depth] or, where not kDepthMajor, [depth, rows].
template <int kColumns, bool kADepthMajor, bool kBDepthMajor>
__global__ void core_product(const bf16* a, const bf16* b, const CorePlan plan, float* partial) {
  matrix_core<bf16, kColumns>(OperandOf<kCoreRows, kADepthMajor>::make(a, plan.rows, plan.depth),
                              OperandOf<kColumns, kBDepthMajor>::make(b, plan.columns, plan.depth), plan,
                              [&](int slice, int row, int column, const float(&sums)[kChunk]) {
                                store_partial(partial, plan, slice, row, column, sums);
                              });
}

// sums[pixel, column] of a filter on x [images, height, width, channels]; w is [column, tap, channel] or, for
// an input gradient, [channel, tap, column].
template <int kColumns, bool kInput>
__global__ void strip_product(const bf16* x, const bf16* w, const StripWalk strips, const CorePlan plan,
                              float* sums) {
  const auto put = [&](int slice, int row, int column, const float(&eight)[kChunk]) {
    store_partial(sums, plan, slice, row, column, eight);
  };
  if constexpr (kInput)
    strip_core<bf16, kColumns>(x, strips, StripFilterLayers<bf16, kColumns>(w, plan.columns, strips.walk),
                               plan, put);
  else
    strip_core<bf16, kColumns>(x, strips, StripFilterRows<bf16, kColumns>(w, plan.columns, strips.walk), plan,
                               put);
}

}  // namespace plume::PLUME_KERNELS
