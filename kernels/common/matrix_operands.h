// Matrices as operands of the matrix core, and how their chunks get into shared memory. Places are counted in
// an int: a matrix has fewer than 2^30 values.
#pragma once
#include <initializer_list>

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

// Starts the copy of kUnit neighbouring values, or zeros where there are none.
template <int kUnit, bool kCached, class T>
__device__ __forceinline__ void copy_unit(char* to, const T* from, bool there) {
  simt::async_copy<2 * kUnit, kCached || kUnit != kChunk>(to, from, there ? 2 * kUnit : 0);
}

// The most values, 8, 4, 2 or 1, that one copy can take of rows with these lengths, beginning there.
inline int unit_of_copies(std::initializer_list<int64_t> lengths, std::initializer_list<const void*> data) {
  uint64_t bits = 0;
  for (const int64_t length : lengths) bits |= uint64_t(length) * 2;
  for (const void* from : data) bits |= reinterpret_cast<uintptr_t>(from);
  return bits % 16 == 0 ? 8 : bits % 8 == 0 ? 4 : bits % 4 == 0 ? 2 : 1;
}

// [rows, depth], row-major: depth is a multiple of kUnit. Rows past the last are left as they are: nobody
// stores their sums; and so are layers past the last 16 that are multiplied.
template <class T, int kRows, int kUnit = kChunk, int kDepth = kCoreDepth, int kThreads = kCoreThreads>
struct MatrixRows {
  static constexpr bool kDepthMajor = true;
  using Plan = CopyPlan<kRows, true, kUnit, kDepth, kThreads>;
  const T* data;
  int rows, depth;
  int next = 0, rows_left = 0, depth_left = 0;  // from this thread's place

  __device__ MatrixRows(const T* data_, int rows_, int depth_) : data(data_), rows(rows_), depth(depth_) {}
  __device__ void begin(int row, int first) {
    const int lane = first + Plan::value();
    rows_left = rows - row - Plan::row(0);
    depth_left = depth - lane;
    next = (row + Plan::row(0)) * depth + lane;
  }
  __device__ void fetch(char* tile) {
    const int to = Plan::begin(), rows_here = depth_left > -(-depth & 15) ? rows_left : 0;
#pragma unroll
    for (int pass = 0; pass < Plan::kPasses; ++pass)
      if (rows_here > pass * Plan::kStep)
        copy_unit<kUnit, false>(Plan::place(tile, to, pass), data + (next + pass * Plan::kStep * depth),
                                depth_left > 0);
    next += kDepth;
    depth_left -= kDepth;
  }
};

// [depth, rows], row-major: rows is a multiple of kUnit, unless kVector is false. Likewise for rows past the
// last.
template <class T, int kRows, bool kVector, int kUnit = kChunk, int kThreads = kCoreThreads>
struct MatrixLayers {
  static constexpr bool kDepthMajor = false;
  using Plan = CopyPlan<kRows, false, kUnit, kCoreDepth, kThreads>;
  const T* data;
  int rows, depth;
  bool even;
  int next = 0, rows_left = 0, depth_left = 0;  // from this thread's place

  __device__ MatrixLayers(const T* data_, int rows_, int depth_, bool even_)
      : data(data_), rows(rows_), depth(depth_), even(even_) {}
  __device__ void begin(int row, int first) {
    const int lane = row + Plan::value();
    rows_left = rows - lane;
    depth_left = depth - first - Plan::row(0);
    next = (first + Plan::row(0)) * rows + lane;
  }
  __device__ void fetch(char* tile) {
    const int to = Plan::begin();
    if (rows_left > 0) {
#pragma unroll
      for (int pass = 0; pass < Plan::kPasses; ++pass) {
        const bool there = depth_left > pass * Plan::kStep;
        const T* const from = data + (next + pass * Plan::kStep * rows);
        if constexpr (kVector)
          copy_unit<kUnit, false>(Plan::place(tile, to, pass), from, there);
        else
          copy_chunk<false, false>(Plan::place(tile, to, pass), from, there ? rows_left : 0, even);
      }
    }
    next += kCoreDepth * rows;
    depth_left -= kCoreDepth;
  }
};

}  // namespace plume::PLUME_KERNELS
