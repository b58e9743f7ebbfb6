// Products on the matrix core without an operation around them.
#pragma once
#include "kernels/common/matrix_operands.h"
#include "kernels/conv2d_taps.h"

namespace plume::PLUME_KERNELS {

template <int kRows, bool kDepthMajor, int kDepth, int kThreads>
struct OperandOf {
  using type = MatrixRows<bf16, kRows, kChunk, kDepth, kThreads>;
  __device__ static type make(const bf16* data, int rows, int depth) { return type(data, rows, depth); }
};
template <int kRows, int kDepth, int kThreads>
struct OperandOf<kRows, false, kDepth, kThreads> {
  using type = MatrixLayers<bf16, kRows, true, kChunk, kThreads>;
  __device__ static type make(const bf16* data, int rows, int depth) { return type(data, rows, depth, true); }
};

// partial[slice, row, column]; a and b are [rows, depth] or, where not kDepthMajor, [depth, rows].
template <int kColumns, bool kADepthMajor, bool kBDepthMajor, int kDepth, int kRows>
__global__ void core_product(const bf16* a, const bf16* b, const CorePlan plan, float* partial) {
  constexpr int kThreads = core_threads(kRows, kColumns);
  matrix_core<bf16, kColumns, kDepth, kRows>(
      OperandOf<kRows, kADepthMajor, kDepth, kThreads>::make(a, plan.rows, plan.depth),
      OperandOf<kColumns, kBDepthMajor, kDepth, kThreads>::make(b, plan.columns, plan.depth), plan,
      InSlices<FinishStore<float>>{partial, plan, {}});
}

// sums[pixel, column] of a filter on x [images, height, width, channels]; w is [column, tap, channel] or, for
// an input gradient, [channel, tap, column].
template <int kColumns, int kRows, bool kInput>
__global__ void strip_product(const bf16* x, const bf16* w, const StripWalk strips, const CorePlan plan,
                              float* sums) {
  constexpr int kThreads = core_threads(kRows, kColumns);
  const InSlices<FinishStore<float>> put{sums, plan, {}};
  if constexpr (kInput)
    strip_core<bf16, kColumns, kRows>(
        x, strips, StripFilterLayers<bf16, kColumns, kThreads>(w, plan.columns, strips.walk), plan, put);
  else
    strip_core<bf16, kColumns, kRows>(
        x, strips, StripFilterRows<bf16, kColumns, kThreads>(w, plan.columns, strips.walk), plan, put);
}

// slices[slice, filter, tap, channel] of a filter's gradient.
inline __global__ void tap_product(const bf16* x, const bf16* dy, const CorePlan plan,
                                   const FilterGradientStore<TapWalk> store) {
  tap_core(x, dy, store.walk, plan, store);
}

}  // namespace plume::PLUME_KERNELS
