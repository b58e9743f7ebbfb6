// A block's share of a matrix product: out[64 rows, 64 columns] = sum over depth of A[row, d] * B[d, column].
//
// 256 threads; thread (ty, tx) keeps rows 4 ty .. 4 ty + 3 and columns 4 tx .. 4 tx + 3 in 16 registers. Per
// step 16 layers of depth pass through shared memory: every thread fetches four neighbouring values of A and
// of B into registers while the block multiplies the layers before, so that memory latency hides behind 256
// multiply-adds. Two buffers take turns: one barrier per step.
//
// Where the values come from is the caller's business, so that a linear layer and an implicit convolution
// share this file. An operand is an object with
//   static constexpr bool kDepthMajor;   // do its four values follow each other along depth, or along rows?
//   Quad fetch();                        // the thread's next four values, zero outside; moves on 16 layers
// Which four values: quad_place().
#pragma once
#include <algorithm>

#include "kernels/common/kernel.h"
#include "kernels/common/vector.h"

namespace plume::PLUME_KERNELS {

inline constexpr int kTileRows = 64, kTileColumns = 64, kTileDepth = 16, kTileThreads = 256;

using Quad = Pack<float, 4>;

// Inside the 64 x 16 piece of an operand, the thread's four values begin at row `row`, layer `depth`.
struct QuadPlace {
  int row, depth;
};

template <bool kDepthMajor>
__device__ __forceinline__ QuadPlace quad_place() {
  const int thread = int(threadIdx.x);
  if constexpr (kDepthMajor) return {thread / 4, thread % 4 * 4};
  return {thread % 16 * 4, thread / 16};
}

// Four values at `from`, of which the first `valid` exist. kVector: all or none exist, and the address allows
// one access.
template <bool kVector, class T>
__device__ __forceinline__ Quad load_quad(const T* from, int valid) {
  Quad quad = Quad::filled(0.0f);
  if constexpr (kVector) {
    if (valid > 0) {
      const auto values = Pack<T, 4>::load(from);
#pragma unroll
      for (int i = 0; i < 4; ++i) quad[i] = float(values[i]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (i < valid) quad[i] = float(from[i]);
  }
  return quad;
}

// Four floats of padding keep rows 16-byte aligned and the transposing stores nearly free of bank conflicts.
using TileBuffer = float[kTileDepth][kTileRows + 4];

template <bool kDepthMajor>
__device__ __forceinline__ void put_quad(TileBuffer& buffer, const Quad& quad) {
  const QuadPlace place = quad_place<kDepthMajor>();
  if constexpr (kDepthMajor) {
#pragma unroll
    for (int i = 0; i < 4; ++i) buffer[place.depth + i][place.row] = quad[i];
  } else {
    quad.store(&buffer[place.depth][place.row]);
  }
}

// The 4 x 4 sums of a thread: sums[row][column].
struct TileSums {
  Quad rows[4];

  __device__ int row(int i) const { return int(threadIdx.x) / 16 * 4 + i; }
  __device__ int column() const { return int(threadIdx.x) % 16 * 4; }
};

// steps = ceil(depth / 16); all threads of the block must call, once per kernel.
template <class A, class B>
__device__ __forceinline__ TileSums tile_gemm(A& a, B& b, int steps) {
  static_assert(kTileRows == kTileColumns, "one buffer type serves both operands");
  SMEM(a_tile, TileBuffer[2]);
  SMEM(b_tile, TileBuffer[2]);
  TileSums sums;
#pragma unroll
  for (int i = 0; i < 4; ++i) sums.rows[i] = Quad::filled(0.0f);
  if (steps == 0) return sums;

  put_quad<A::kDepthMajor>(a_tile[0], a.fetch());
  put_quad<B::kDepthMajor>(b_tile[0], b.fetch());
  const int row = sums.row(0), column = sums.column();
  for (int step = 0; step < steps; ++step) {
    const int now = step & 1;
    __syncthreads();  // this step's layers are in place, and nobody reads the other buffer any more
    const bool more = step + 1 < steps;
    Quad next_a, next_b;
    if (more) {
      next_a = a.fetch();
      next_b = b.fetch();
    }
#pragma unroll
    for (int d = 0; d < kTileDepth; ++d) {
      const Quad left = Quad::load(&a_tile[now][d][row]), right = Quad::load(&b_tile[now][d][column]);
#pragma unroll
      for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) sums.rows[i][j] += left[i] * right[j];
    }
    if (more) {
      put_quad<A::kDepthMajor>(a_tile[1 - now], next_a);
      put_quad<B::kDepthMajor>(b_tile[1 - now], next_b);
    }
  }
  return sums;
}

// Writes up to four neighbouring values to out[0..3], of which `valid` exist; in one access where `aligned`.
template <class T>
__device__ __forceinline__ void store_quad(T* out, const Quad& values, int64_t valid, bool aligned) {
  if (valid >= 4 && aligned) {
    Pack<T, 4> pack;
#pragma unroll
    for (int i = 0; i < 4; ++i) pack[i] = T(values[i]);
    pack.store(out);
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (i < valid) out[i] = T(values[i]);
}

// A dense matrix, row-major, as an operand. kLayout true: element (row, d) lies at data[row * stride + d];
// otherwise at data[d * stride + row]. It has `rows` rows; its depth counts from `begin` to `end`.
template <class T, bool kLayout, bool kVector>
struct MatrixOperand {
  static constexpr bool kDepthMajor = kLayout;
  const T* next;
  int64_t stride;
  int rows_left, depth_left;  // from this thread's place

  __device__ MatrixOperand(const T* data, int64_t stride_, int64_t first_row, int64_t rows, int64_t begin,
                           int64_t end)
      : stride(stride_) {
    const QuadPlace place = quad_place<kDepthMajor>();
    const int64_t row = first_row + place.row, depth = begin + place.depth;
    next = data + (kDepthMajor ? row * stride + depth : depth * stride + row);
    rows_left = int(min(rows - row, int64_t{4}));
    depth_left = int(end - depth);
  }

  __device__ Quad fetch() {
    const bool exists = rows_left > 0 && depth_left > 0;
    const Quad quad = load_quad<kVector>(next, !exists ? 0 : kDepthMajor ? depth_left : rows_left);
    next += kDepthMajor ? int64_t{kTileDepth} : kTileDepth * stride;
    depth_left -= kTileDepth;
    return quad;
  }
};

// Deterministic split of a long depth over blocks: every slice sums its own part into a partial result, a
// second launch adds the slices in order (row_tiling.h, sum_slices).
struct DepthSplit {
  int slices;
  int64_t depth_per_slice;  // a multiple of kTileDepth

  // `tiles`: blocks that a single slice launches. Aims at two blocks for each of some 130 multiprocessors;
  // a slice is at least 256 deep, so that the partial results stay small beside the operands, and short
  // enough to count in an int.
  DepthSplit(int64_t depth, int64_t tiles) {
    const int64_t useful = std::max<int64_t>(ceil_div(depth, 256), 1);
    const int64_t wanted = std::clamp<int64_t>(264 / std::max<int64_t>(tiles, 1), 1, useful);
    const int64_t steps = ceil_div(std::max<int64_t>(depth, 1), kTileDepth);
    depth_per_slice = ceil_div(steps, std::max(wanted, ceil_div(depth, int64_t{1} << 30))) * kTileDepth;
    slices = int(std::max<int64_t>(ceil_div(depth, depth_per_slice), 1));
  }
};

}  // namespace plume::PLUME_KERNELS
