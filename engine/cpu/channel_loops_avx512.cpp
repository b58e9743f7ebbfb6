// Loops over channels for AVX-512, which this file is compiled for: rows of depthwise convolutions, their
// gradients and max pools, Winograd tiles, dot products, batch norm's passes.
#include "engine/cpu/batch_norm_rows.h"
#include "engine/cpu/conv/winograd_tile.h"
#include "engine/cpu/depthwise_gradient_rows.h"
#include "engine/cpu/depthwise_row.h"
#include "engine/cpu/dot_tile.h"
#include "engine/cpu/max_pool_row.h"

#if defined(__x86_64__)
namespace plume::cpu {
namespace {

struct Lanes16 {
  static constexpr int64_t kCount = 16;
  using Vector = float __attribute__((vector_size(64)));
  using Memory = float __attribute__((vector_size(64), aligned(4), may_alias));
  static Vector load(const float* p) { return *reinterpret_cast<const Memory*>(p); }
  static void store(float* p, const Vector& v) { *reinterpret_cast<Memory*>(p) = v; }
};

}  // namespace

DepthwiseRowKernel* depthwise_row_avx512(int filter, int stride, int columns) {
  return depthwise_row_kernel<Lanes16>(filter, stride, columns);
}

const BatchNormKernels batch_norm_kernels_avx512 = batch_norm_kernels<Lanes16>();
const DepthwiseGradientKernels depthwise_gradient_kernels_avx512 = depthwise_gradient_kernels<Lanes16>();
const DotKernel dot_kernel_avx512{6, any_dot_tile<Lanes16, 6>};

void max_pool_row_avx512(const MaxPoolRow& row) { max_pool_row<Lanes16>(row); }

void winograd_input_avx512(const WinogradInput& tile) { winograd_input<Lanes16>(tile); }
void winograd_output_avx512(const WinogradOutput& tile) { winograd_output<Lanes16>(tile); }

}  // namespace plume::cpu
#endif
