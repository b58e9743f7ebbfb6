// Matrices as operands of the matrix core, and how their chunks get into shared memory. Places are counted in
// an int: a matrix has fewer than 2^30 values.
#pragma once
#include "kernels/common/matrix_core.h"

namespace plume::PLUME_KERNELS {

// Starts the copy of a chunk, of which `valid` values exist; the others become zero. kVector: all or none
// exist, and 16 bytes can be copied at once. Otherwise pairs are copied where `even`: where all chunks of the
// operand begin at a multiple of 4 bytes; else value by value, which waits for the values.
template <bool kVector, bool kCached, class T>
__device__ __forceinline__ void copy_chunk(char* to, const T* from, int valid, bool even) {
  if constexpr (kVector) {
    simt::async_copy<16, kCached>(to, from, valid > 0 ? 16 : 0);
  } else if (even) {
#pragma unroll
    for (int i = 0; i < kChunk; i += 2)
      simt::async_copy<4>(to + 2 * i, from + i, unsigned(min(max(valid - i, 0), 2)) * 2);
  } else {
    auto pack = Pack<T, kChunk>::filled(T(0.0f));
#pragma unroll
    for (int i = 0; i < kChunk; ++i)
      if (i < valid) pack[i] = from[i];
    pack.store(reinterpret_cast<T*>(to));
  }
}

// [rows, depth], row-major: depth is a multiple of 8.
template <class T, int kRows>
struct MatrixRows {
  static constexpr bool kDepthMajor = true;
  using Plan = CopyPlan<kRows, true>;
  const T* data;
  int rows, depth;
  int next = 0, rows_left = 0, depth_left = 0;  // from this thread's place

  __device__ MatrixRows(const T* data_, int rows_, int depth_) : data(data_), rows(rows_), depth(depth_) {}
  __device__ void begin(int row, int first) {
    const int lane = first + Plan::chunk() * kChunk;
    rows_left = rows - row - Plan::row(0);
    depth_left = depth - lane;
    next = (row + Plan::row(0)) * depth + lane;
  }
  __device__ void fetch(char* tile) {
    char* const to = Plan::place(tile);
#pragma unroll
    for (int pass = 0; pass < Plan::kPasses; ++pass)
      copy_chunk<true, false>(to + pass * Plan::kPassBytes, data + (next + pass * Plan::kStep * depth),
                              rows_left > pass * Plan::kStep ? depth_left : 0, true);
    next += kCoreDepth;
    depth_left -= kCoreDepth;
  }
};

// [depth, rows], row-major: rows is a multiple of 8, unless kVector is false.
template <class T, int kRows, bool kVector>
struct MatrixLayers {
  static constexpr bool kDepthMajor = false;
  using Plan = CopyPlan<kRows, false>;
  const T* data;
  int rows, depth;
  bool even;
  int next = 0, rows_left = 0, depth_left = 0;  // from this thread's place

  __device__ MatrixLayers(const T* data_, int rows_, int depth_, bool even_)
      : data(data_), rows(rows_), depth(depth_), even(even_) {}
  __device__ void begin(int row, int first) {
    const int lane = row + Plan::chunk() * kChunk;
    rows_left = rows - lane;
    depth_left = rows_left > 0 ? depth - first - Plan::row(0) : 0;
    next = (first + Plan::row(0)) * rows + lane;
  }
  __device__ void fetch(char* tile) {
    char* const to = Plan::place(tile);
#pragma unroll
    for (int pass = 0; pass < Plan::kPasses; ++pass)
      copy_chunk<kVector, false>(to + pass * Plan::kPassBytes, data + (next + pass * Plan::kStep * rows),
                                 depth_left > pass * Plan::kStep ? (kVector ? kChunk : rows_left) : 0, even);
    next += kCoreDepth * rows;
    depth_left -= kCoreDepth;
  }
};

}  // namespace plume::PLUME_KERNELS
