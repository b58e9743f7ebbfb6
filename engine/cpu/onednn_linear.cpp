// linear by oneDNN's matrix product in f32; 16-bit tensors are widened first. The epilogue is a second, short
// pass: outputs are few beside the products that make them.
#include <algorithm>

#include "engine/cpu/conv/onednn.h"
#include "engine/ops/linear.h"

#if PLUME_HAVE_ONEDNN
#include <dnnl.h>

namespace plume::cpu {
namespace {

// A block of rows or columns of out [m, n] = a b, rows contiguous. `transpose` says whether the operand is
// stored as its transpose.
struct Product {
  const float* a;
  bool transpose_a;
  const float* b;
  bool transpose_b;
  int64_t m, n, k;
  float* out;

  void block(int64_t row, int64_t rows, int64_t column, int64_t columns) const {
    const int64_t lda = transpose_a ? m : k, ldb = transpose_b ? k : n;
    const dnnl_status_t status =
        dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', rows, columns, k, 1.0f,
                   a + row * (transpose_a ? 1 : lda), lda, b + column * (transpose_b ? ldb : 1), ldb, 0.0f,
                   out + row * n + column, n);
    if (status != dnnl_success)
      fail(ErrorKind::internal, "linear: dnnl_sgemm refused {} x {} x {}", rows, columns, k);
  }
};

// Blocks along the longer side, whatever the number of threads. oneDNN copies both operands into its own
// layout for every block, so that there are few.
void multiply(const Product& p) {
  constexpr int64_t kMostBlocks = 8, kLeastSide = 64, kLeastWork = 1 << 20;
  const bool by_rows = p.m > p.n;
  const int64_t side = std::max(p.m, p.n);
  const int64_t most = std::min({kMostBlocks, side / kLeastSide, p.m * p.n * p.k / kLeastWork});
  const int64_t blocks = std::max<int64_t>(1, most);
  for_each_onednn_piece(blocks, [&](int64_t i) {
    const int64_t first = side * i / blocks, count = side * (i + 1) / blocks - first;
    by_rows ? p.block(first, count, 0, p.n) : p.block(0, p.m, first, count);
  });
}

void run_forward(Context&, const Tensor& x, const Tensor& w, const Epilogue& epilogue, Tensor& y) {
  const Tensor wide_x = widened(x), wide_w = widened(w);
  Epilogue wide = epilogue;
  wide.residual = widened(epilogue.residual);
  through_f32(y, [&](Tensor& out) {
    const int64_t outputs = w.dim(0);
    float* values = out.data<float>();
    multiply({wide_x.data<float>(), false, wide_w.data<float>(), true, x.dim(0), outputs, x.dim(1), values});
    if (wide.empty()) return;
    const EpilogueView<float> finish(wide);
    parallel_for(x.dim(0), row_grain(outputs), [=](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n)
        for (int64_t k = 0; k < outputs; ++k)
          values[n * outputs + k] = finish(values[n * outputs + k], int(k), n * outputs + k);
    });
  });
}

void run_backward_input(Context&, const Tensor& dy, const Tensor& w, Tensor& dx) {
  const Tensor wide_dy = widened(dy), wide_w = widened(w);
  through_f32(dx, [&](Tensor& out) {
    multiply({wide_dy.data<float>(), false, wide_w.data<float>(), false, dy.dim(0), w.dim(1), w.dim(0),
              out.data<float>()});
  });
}

void run_backward_weight(Context&, const Tensor& x, const Tensor& dy, Tensor& dw) {
  const Tensor wide_x = widened(x), wide_dy = widened(dy);
  through_f32(dw, [&](Tensor& out) {
    multiply({wide_dy.data<float>(), true, wide_x.data<float>(), false, dy.dim(1), x.dim(1), x.dim(0),
              out.data<float>()});
  });
}

bool fits_forward(const Context&, const Tensor& x, const Tensor& w, const Epilogue&, Tensor&) {
  return x.size() > 0 && w.size() > 0;
}
bool fits_backward(const Context&, const Tensor& a, const Tensor& b, Tensor&) {
  return a.size() > 0 && b.size() > 0;
}

const bool registered =
    linear_forward.add(Device::cpu, {{"onednn", fits_forward, run_forward}}, KernelSlotBase::kVendor) &&
    linear_backward_input.add(Device::cpu, {{"onednn", fits_backward, run_backward_input}},
                              KernelSlotBase::kVendor) &&
    linear_backward_weight.add(Device::cpu, {{"onednn", fits_backward, run_backward_weight}},
                               KernelSlotBase::kVendor);

}  // namespace
}  // namespace plume::cpu
#endif  // PLUME_HAVE_ONEDNN
