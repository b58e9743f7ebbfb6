// Products on the matrix core without an operation around them.
#pragma once
#include "kernels/common/matrix_operands.h"

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

}  // namespace plume::PLUME_KERNELS
