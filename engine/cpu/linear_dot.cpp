// linear in f32: y = epilogue(x w^T), tile by tile (dot_tile.h).
//
// A tile's rows of w stay in the first cache while all rows of x pass by, so that w, which is the larger one
// for small batches, comes from memory once: at batch 1 reading it is the bound, with larger ones arithmetic.
#include <algorithm>

#include "engine/cpu/conv/panel_gemm.h"
#include "engine/cpu/dot_tile.h"
#include "engine/cpu/parallel.h"
#include "engine/cpu/vector8.h"
#include "engine/ops/linear.h"

namespace plume::cpu {
namespace {

const DotKernel& dot_kernel() {
  static constexpr DotKernel kAvx2{3, any_dot_tile<Lanes8, 3>};
#if defined(__x86_64__)
  if (has_avx512()) return dot_kernel_avx512;
#endif
  return kAvx2;
}

void run(Context&, const Tensor& x, const Tensor& w, const Epilogue& epilogue, Tensor& y) {
  const int64_t depth = w.dim(1), outputs = w.dim(0), rows = x.size() / depth;
  const float *px = x.data<float>(), *pw = w.data<float>();
  float* py = y.data<float>();
  const EpilogueView<float> finish(epilogue);
  const DotKernel& kernel = dot_kernel();
  const int64_t tiles = ceil_div(outputs, kernel.outputs);
  parallel_for(tiles, row_grain(rows * depth * kernel.outputs / 4), [&](int64_t begin, int64_t end) {
    float sums[kDotRows][kMostDotOutputs];
    for (int64_t tile = begin; tile < end; ++tile) {
      const int64_t k = tile * kernel.outputs;
      const int columns = int(std::min<int64_t>(kernel.outputs, outputs - k));
      for (int64_t n = 0; n < rows; n += kDotRows) {
        const int count = int(std::min<int64_t>(kDotRows, rows - n));
        kernel.run({px + n * depth, pw + k * depth, count, columns, depth, sums});
        for (int i = 0; i < count; ++i)
          for (int j = 0; j < columns; ++j) {
            const int64_t at = (n + i) * outputs + k + j;
            py[at] = finish(sums[i][j], int(k) + j, at);
          }
      }
    }
  });
}

bool fits(const Context&, const Tensor& x, const Tensor& w, const Epilogue&, Tensor& y) {
  return x.dtype() == DType::f32 && w.size() > 0 && y.size() > 0;
}

const bool registered = linear_forward.add(Device::cpu, {{"dot", fits, run}}, KernelSlotBase::kSpecial);

}  // namespace
}  // namespace plume::cpu
