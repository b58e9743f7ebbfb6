// The small products in a squeeze-excitation's gradient, by blocks of kernels that pass over the images: what
// squeeze_excitation.cu and batch_norm_excitation.cu have in common.
#pragma once
#include "engine/ops/squeeze_excitation.h"
#include "kernels/common/row_tiling.h"
#include "kernels/common/warp_reduce.h"

namespace plume::PLUME_KERNELS {
namespace {

constexpr int kExciteThreads = kTilingThreads, kLanesPerOutput = 8;

struct ExciteSizes {
  int plane, channels, hidden;
};

// Blocks are of RowTiling's shape here and in a row there.
__device__ __forceinline__ int thread_of_block() { return int(threadIdx.y * blockDim.x + threadIdx.x); }

// dz2 holds the gates' gradients and becomes dz2.
struct ExciteBackward {
  const float *z1, *z2, *w1, *w2;
  ExciteSizes s;
  SqueezeExcitationParams params;
  float *dz2, *dz1, *hidden, *dpooled;

  __device__ void operator()(int64_t image) const {
    constexpr int kWarps = kExciteThreads / kWarpSize;
    float* d2 = simt::dyn_smem<float>();  // [channels]
    float* d1 = d2 + s.channels;          // [hidden]
    SMEM(partial, float[kWarps][kWarpSize]);
    const int thread = thread_of_block(), lane = thread % kWarpSize, warp = thread / kWarpSize;
    for (int c = thread; c < s.channels; c += kExciteThreads) {
      const int64_t at = image * s.channels + c;
      d2[c] = dz2[at] * slope_from_input(params.gate, z2[at]);
      dz2[at] = d2[c];
    }
    __syncthreads();
    for (int q0 = 0; q0 < s.hidden; q0 += kWarpSize) {
      const int q = q0 + lane;
      float sum = 0.0f;
      if (q < s.hidden)
        for (int c = warp; c < s.channels; c += kWarps) sum += d2[c] * w2[int64_t(c) * s.hidden + q];
      partial[warp][lane] = sum;
      __syncthreads();
      if (warp == 0 && q < s.hidden) {
        float total = 0.0f;
#pragma unroll
        for (int i = 0; i < kWarps; ++i) total += partial[i][lane];
        const int64_t at = image * s.hidden + q;
        d1[q] = total * slope_from_input(params.inner, z1[at]);
        dz1[at] = d1[q];
        hidden[at] = activate(params.inner, z1[at]);
      }
      __syncthreads();
    }
    for (int c = thread; c < s.channels; c += kExciteThreads) {
      float sum = 0.0f;
      for (int q = 0; q < s.hidden; ++q) sum += d1[q] * w1[int64_t(q) * s.channels + c];
      dpooled[image * s.channels + c] = sum / float(s.plane);
    }
  }
};

// out[a, b] = sum over n of left[n, a] right[n, b];  sums[a] = sum over n of left[n, a]. A thread has a few
// rows and columns, so that what it reads is used more than once; a warp's columns lie side by side.
struct WeightGradient {
  static constexpr int kRows = 4, kColumns = 2;

  const float *left, *right;
  int images, rows, columns;
  float *out, *sums;

  WeightGradient(const Tensor& l, const Tensor& r, Tensor& to, Tensor& bias)
      : left(l.data<float>()),
        right(r.data<float>()),
        images(int(l.dim(0))),
        rows(int(l.dim(1))),
        columns(int(r.dim(1))),
        out(to.data<float>()),
        sums(bias.data<float>()) {}
  PLUME_HD int across() const { return int(ceil_div(columns, kColumns * kWarpSize)); }
  PLUME_HD int warps() const { return int(ceil_div(rows, kRows)) * across(); }
  __device__ void operator()(int warp, int lane) const {
    const int a0 = warp / across() * kRows, b0 = warp % across() * (kColumns * kWarpSize) + lane;
    float products[kRows][kColumns] = {}, plain[kRows] = {};
#pragma unroll 4
    for (int n = 0; n < images; ++n) {
      const float *from = left + int64_t(n) * rows + a0, *with = right + int64_t(n) * columns + b0;
      float factors[kRows], values[kColumns];
#pragma unroll
      for (int i = 0; i < kRows; ++i) factors[i] = a0 + i < rows ? from[i] : 0.0f;
#pragma unroll
      for (int j = 0; j < kColumns; ++j)
        values[j] = b0 + j * kWarpSize < columns ? with[j * kWarpSize] : 0.0f;
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        plain[i] += factors[i];
#pragma unroll
        for (int j = 0; j < kColumns; ++j) products[i][j] += factors[i] * values[j];
      }
    }
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      if (a0 + i >= rows) continue;
#pragma unroll
      for (int j = 0; j < kColumns; ++j)
        if (const int b = b0 + j * kWarpSize; b < columns)
          out[int64_t(a0 + i) * columns + b] = products[i][j];
      if (b0 == 0) sums[a0 + i] = plain[i];
    }
  }
};

struct WeightGradients {
  WeightGradient first, second;

  unsigned blocks() const {
    return unsigned(ceil_div(first.warps() + second.warps(), kExciteThreads / kWarpSize));
  }
  __device__ void operator()(unsigned block) const {
    const int thread = thread_of_block(), own = first.warps();
    const int warp = int(block) * (kExciteThreads / kWarpSize) + thread / kWarpSize,
              lane = thread % kWarpSize;
    if (warp < own)
      first(warp, lane);
    else if (warp < own + second.warps())
      second(warp - own, lane);
  }
};

// The numbers of w1 [hidden, channels].
ExciteSizes excite_sizes(int64_t plane, const Tensor& w1) {
  return {int(plane), int(w1.dim(1)), int(w1.dim(0))};
}
size_t excite_bytes(const ExciteSizes& s) { return sizeof(float) * size_t(s.channels + s.hidden); }

// blockIdx.x counts images, blockIdx.y tiles of channels.
template <int kWidth>
simt::Launch per_image(const Context& context, const Tensor& x) {
  const RowTiling tiling(x.dim(1) * x.dim(2), x.dim(3) / kWidth);
  return {dim3(unsigned(x.dim(0)), tiling.grid.x), tiling.block, 0, stream_of(context)};
}

}  // namespace
}  // namespace plume::PLUME_KERNELS
