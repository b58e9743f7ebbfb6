// linear in f32: y = epilogue(x w^T), both operands read along their rows as they lie in memory.
//
// A tile of up to 4 rows of x and 3 of w keeps twelve vectors of partial sums; a step of eight values of
// depth loads seven vectors for twelve multiply-adds. The three rows of w stay in the first cache while all
// rows of x pass by, so that w, which is the larger one for small batches, comes from memory once: at batch 1
// reading it is the bound, with larger ones arithmetic.
#include <algorithm>

#include "engine/cpu/parallel.h"
#include "engine/cpu/vector8.h"
#include "engine/ops/linear.h"

namespace plume::cpu {
namespace {

constexpr int kRows = 4, kOutputs = 3;
constexpr int64_t kLanes = 8;

// out[i * pitch + j] = x[i] . w[j] for i < kN rows and j < kK outputs.
template <int kN, int kK>
void dot_tile(const float* x, const float* w, int64_t depth, float (&out)[kRows][kOutputs]) {
  Vector8 sums[kN][kK] = {};
  int64_t c = 0;
  for (; c + kLanes <= depth; c += kLanes) {
    Vector8 b[kK];
#pragma GCC unroll 3
    for (int j = 0; j < kK; ++j) b[j] = load8(w + j * depth + c);
#pragma GCC unroll 4
    for (int i = 0; i < kN; ++i) {
      const Vector8 a = load8(x + i * depth + c);
#pragma GCC unroll 3
      for (int j = 0; j < kK; ++j) sums[i][j] += a * b[j];
    }
  }
  for (int i = 0; i < kN; ++i)
    for (int j = 0; j < kK; ++j) {
      const Vector8& s = sums[i][j];
      float sum = ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
      for (int64_t rest = c; rest < depth; ++rest) sum += x[i * depth + rest] * w[j * depth + rest];
      out[i][j] = sum;
    }
}

template <int kK>
void dot_tile(int rows, const float* x, const float* w, int64_t depth, float (&out)[kRows][kOutputs]) {
  switch (rows) {
    case 4:
      return dot_tile<4, kK>(x, w, depth, out);
    case 3:
      return dot_tile<3, kK>(x, w, depth, out);
    case 2:
      return dot_tile<2, kK>(x, w, depth, out);
    default:
      return dot_tile<1, kK>(x, w, depth, out);
  }
}

void run(Context&, const Tensor& x, const Tensor& w, const Epilogue& epilogue, Tensor& y) {
  const int64_t depth = w.dim(1), outputs = w.dim(0), rows = x.size() / depth;
  const float *px = x.data<float>(), *pw = w.data<float>();
  float* py = y.data<float>();
  const EpilogueView<float> finish(epilogue);
  const int64_t tiles = (outputs + kOutputs - 1) / kOutputs;
  parallel_for(tiles, row_grain(rows * depth * kOutputs / 4), [&](int64_t begin, int64_t end) {
    float sums[kRows][kOutputs];
    for (int64_t tile = begin; tile < end; ++tile) {
      const int64_t k = tile * kOutputs;
      const int columns = int(std::min<int64_t>(kOutputs, outputs - k));
      for (int64_t n = 0; n < rows; n += kRows) {
        const int count = int(std::min<int64_t>(kRows, rows - n));
        const float *a = px + n * depth, *b = pw + k * depth;
        if (columns == 3)
          dot_tile<3>(count, a, b, depth, sums);
        else if (columns == 2)
          dot_tile<2>(count, a, b, depth, sums);
        else
          dot_tile<1>(count, a, b, depth, sums);
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
