// A product of matrices in 16 bits on tensor cores, sums in float: out[row, column] = sum over depth of
// A[row, depth] * B[column, depth]. Whose matrices these are is the caller's business: convolutions bring
// pixels and filters (conv2d_patches.h).
//
// A tile of the result is 128 rows x kColumns (32, 64, 96 or 128); 128 threads, 4 warps (CoreShape). Or it
// has more warps and a multiprocessor for itself, up to 192 x 192 (matrix_tiles.h has the choice). How their
// sums get into memory: matrix_sums.h.
// Depth passes through shared memory in layers of 64, 128 bytes of a row (kDepth; 32 where that is all):
// three stages, two of them on their way by cp.async while the third is multiplied; one barrier per step.
// Rows of shared memory have no padding, their 16-byte chunks are permuted (swizzle), so that eight rows'
// chunks lie in different banks whether they are written, or read by ldmatrix. An operand comes in one of
// two shapes:
//   kDepthMajor  [rows][64]: neighbours in memory are neighbours in depth
//   otherwise    [64][rows]: neighbours in memory are rows; ldmatrix transposes
//
// Blocks are persistent: each takes tile after tile, and the copies of the next tile begin before the last
// one is stored. Where there are fewer tiles than places for blocks, depth is cut into slices; partial sums
// go to memory, and the last block of a tile or a second launch adds them in order. Results repeat bit for
// bit. Where all tiles of a block have the same columns and the depth is up to three steps, B is copied once
// (four in tiles of more warps, which have as many stages of B).
//
// Per step and warp, 128 columns: 128 mma, 32 ldmatrix, 16 cp.async; wavefronts (32 + 16) * 4 * 4 warps
// = 768, beside 512 mma, which take 825 clocks at the 62 % of the peak that mma.sync reaches on an H100.
//
// An operand is an object with
//   static constexpr bool kDepthMajor;
//   void begin(int row, int depth);   // of a tile; depth is a multiple of 64
//   void fetch(char* tile);           // starts the thread's copies of the next 64 layers, zeros outside
// and A may have, for values that must change on their way,
//   void follow(int row, int depth);  // of the tile that is multiplied next
//   void arrived(char* tile);         // its next 64 layers: the thread's own copies are in place
#pragma once
#include "engine/core/tensor.h"
#include "kernels/common/kernel.h"
#include "kernels/common/matrix_sums.h"
#include "kernels/common/mma.h"

namespace plume::PLUME_KERNELS {

// Where a chunk lies in a tile with kChunks of them in a row, in bytes.
template <int kChunks>
__device__ __forceinline__ int swizzled(int row, int chunk) {
  static_assert(kChunks >= 4);
  const int turn = kChunks >= 8 ? row & 7 : row >> 1 & 3;
  return (row * kChunks + (chunk ^ turn)) * 16;
}

// The units of a tile that a thread copies, of kUnit values each: one column of units, every kStep-th row.
template <int kRows, bool kDepthMajor, int kUnit = kChunk, int kDepth = kCoreDepth,
          int kThreads = kCoreThreads>
struct CopyPlan {
  static constexpr int kChunks = kDepthMajor ? kDepth / kChunk : kRows / kChunk;  // in a row
  static constexpr int kUnits = kChunks * (kChunk / kUnit);
  static constexpr int kStep = kThreads / kUnits;
  static constexpr int kPasses = (kDepthMajor ? kRows : kDepth) / kStep;
  static constexpr int kPassBytes = kStep * kChunks * 16;
  static_assert(kStep % 8 == 0 || (8 % kStep == 0 && kChunks >= 8),
                "passes differ in one factor of the swizzle");

  __device__ static int chunk() { return int(threadIdx.x) % kChunks; }
  __device__ static int value() { return int(threadIdx.x) % kUnits * kUnit; }  // in a row
  __device__ static int row(int pass) { return int(threadIdx.x) / kUnits + pass * kStep; }
  // Of the first pass. Where rows of all passes are permuted alike the next one is kPassBytes on.
  __device__ static int begin() {
    const int me = computed_here(int(threadIdx.x)), value = me % kUnits * kUnit;
    return swizzled<kChunks>(me / kUnits, value / kChunk) + value % kChunk * 2;
  }
  __device__ static char* place(char* tile) { return tile + begin(); }
  __device__ static char* place(char* tile, int begin, int pass) {
    return tile + ((begin ^ (pass * kStep & 7) * 16) + pass * kPassBytes);
  }
};

template <int kColumns, int kDepth = kCoreDepth, int kRows = kCoreRows>
struct CoreMemory {
  static constexpr int kA = kRows * kDepth * 2, kB = kColumns * kDepth * 2;  // of a stage
  static constexpr int kFirstB = kCoreStages * kA, kSums = kFirstB + kept_steps(kRows) * kB;
  static constexpr int kBytes = kSums + CoreShape<kColumns, kRows>::kBufferBytes;
};

namespace core {

__device__ __forceinline__ int lane() { return int(threadIdx.x) % 32; }

// Fragments of 16 rows, of either operand: matrices in the order rows 0-7, 8-15 at depth d, then at d + 8
// (kRowsFirst), or rows 0-7 at depth d, d + 8, then rows 8-15. Where the lane's row of them lies in the tile:
// begin() for the warp's first row, at() for the i-th 16 rows at depth d. Of the permuted chunk number a step
// flips bits that are 0 for the first. Rows side by side in memory, 48 a warp, cross the groups of chunks
// that are permuted: each 16 of them then begin by themselves (kBegins).
template <int kRows, bool kDepthMajor, bool kRowsFirst, int kDepth = kCoreDepth, int kWarpRows = 64>
struct Fragments {
  static constexpr int kBegins = kDepthMajor || kWarpRows % 32 == 0 ? 1 : kWarpRows / 16;
  __device__ static int begin(int row) {
    const int low = lane() % 8, inner = lane() / 8 % 2, outer = lane() / 16;
    const int row_half = kRowsFirst ? inner : outer, depth_half = kRowsFirst ? outer : inner;
    return kDepthMajor ? swizzled<kDepth / kChunk>(row + row_half * 8 + low, depth_half)
                       : swizzled<kRows / kChunk>(depth_half * 8 + low, row / 8 + row_half);
  }
  __device__ static int at(int begin, int i, int d) {
    return kDepthMajor ? (begin ^ 2 * d) + i * 16 * 2 * kDepth : (begin ^ 32 * i) + d * 2 * kRows;
  }
  __device__ static void load(uint32_t (&r)[4], const char* from) {
    if constexpr (kDepthMajor)
      ldmatrix_x4(r, from);
    else
      ldmatrix_x4_trans(r, from);
  }
};

// sums += the product over 16 layers, of A's fragments and the tile at `tile_b`; of the warp's first kUsed
// columns.
template <class T, class Right, int kUsed = 1 << 16, int kColumns, int kRows>
__device__ __forceinline__ void multiply_rows(const uint32_t (&left)[CoreSums<kColumns, kRows>::kRowTiles][4],
                                              const char* tile_b, int b, int d,
                                              CoreSums<kColumns, kRows>& sums) {
  constexpr int kAll = CoreSums<kColumns, kRows>::kTiles / 2, kPairs = kUsed / 16 < kAll ? kUsed / 16 : kAll;
#pragma unroll
  for (int n = 0; n < kPairs; ++n) {
    uint32_t right[4];
    Right::load(right, tile_b + Right::at(b, n, d));
#pragma unroll
    for (int m = 0; m < CoreSums<kColumns, kRows>::kRowTiles; ++m)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const uint32_t fragment[2] = {right[2 * i], right[2 * i + 1]};
        mma_m16n8k16(T{}, sums.values[m][2 * n + i], left[m], fragment);
      }
  }
}

}  // namespace core

// The block's tiles, each to `store` (matrix_sums.h).
template <class T, int kColumns, int kDepth = kCoreDepth, int kRows = kCoreRows, class A, class B, class Plan,
          class Store>
__device__ __forceinline__ void matrix_core(A a, B b, const Plan& plan, const Store& store) {
  using Memory = CoreMemory<kColumns, kDepth, kRows>;
  using Shape = CoreShape<kColumns, kRows>;
  char* const memory = simt::dyn_smem<char>();
  const int tiles = plan.row_tiles * plan.column_tiles * plan.slices;
  int next = int(blockIdx.x), steps_left = 0;
  const bool kept = plan.keeps_columns(int(gridDim.x));  // a step's in the stage of its number
  int fetches_of_b = kept ? plan.steps : tiles * plan.steps;
  const auto begin = [&] {
    if (next >= tiles) return;
    const CorePlan::Tile tile = plan.tile(next);
    const int first_layer = plan.first_layer(tile);
    a.begin(tile.row * kRows, first_layer);
    b.begin(tile.column * kColumns, first_layer);
    steps_left = plan.steps_of(tile);
  };
  const auto fetch = [&](int stage) {
    if (steps_left > 0) {
      a.fetch(memory + stage * Memory::kA);
      if (--fetches_of_b >= 0) {
        const int stage_of_b = kept ? plan.steps - 1 - fetches_of_b : stage;
        b.fetch(memory + Memory::kFirstB + stage_of_b * Memory::kB);
      }
      if (--steps_left == 0) {
        next += int(gridDim.x);
        begin();
      }
    }
    simt::async_commit();
  };
  begin();
#pragma unroll 1
  for (int i = 0; i < kCoreStages - 1; ++i) fetch(i);

  using Left = core::Fragments<kRows, A::kDepthMajor, true, kDepth, Shape::kWarpRows>;
  using Right = core::Fragments<kColumns, B::kDepthMajor, false, kDepth>;
  int left[Left::kBegins];
#pragma unroll
  for (int i = 0; i < Left::kBegins; ++i) left[i] = Left::begin(Shape::warp_row() + 16 * i);
  const int right = Right::begin(Shape::warp_column());
  int read = 0;  // the stage that is multiplied; the copies go to the one before
  for (int number = int(blockIdx.x); number < tiles; number += int(gridDim.x)) {
    const CorePlan::Tile tile = plan.tile(number);
    const bool mine = tile.row * kRows + Shape::warp_row() < plan.rows &&
                      tile.column * kColumns + Shape::warp_column() < plan.columns;
    CoreSums<kColumns, kRows> sums;
    sums.clear();
    if constexpr (requires { a.follow(0, 0); }) a.follow(tile.row * kRows, plan.first_layer(tile));
    int layers = plan.layers_of(tile);
    const int steps = plan.steps_of(tile);
    for (int step = 0; step < steps; ++step, layers -= kDepth) {
      simt::async_wait<kCoreStages - 2>();
      if constexpr (requires { a.arrived(memory); }) a.arrived(memory + read * Memory::kA);
      __syncthreads();  // the stage is in place for all, and nobody reads the one before any more
      fetch(read == 0 ? kCoreStages - 1 : read - 1);
      const char* const stage = memory + read * Memory::kA;
      const char* const stage_of_b = memory + Memory::kFirstB + (kept ? step : read) * Memory::kB;
      read = read + 1 == kCoreStages ? 0 : read + 1;
      if (!mine) continue;
      int from_a[Left::kBegins];
#pragma unroll
      for (int i = 0; i < Left::kBegins; ++i) from_a[i] = computed_here(left[i]);
      const int from_b = computed_here(right);
      const auto multiply = [&](int d) {
        uint32_t rows[CoreSums<kColumns, kRows>::kRowTiles][4];
#pragma unroll
        for (int m = 0; m < CoreSums<kColumns, kRows>::kRowTiles; ++m)
          Left::load(rows[m], stage + (Left::kBegins == 1 ? Left::at(from_a[0], m, d)
                                                          : Left::at(from_a[m % Left::kBegins], 0, d)));
        core::multiply_rows<T, Right>(rows, stage_of_b, from_b, d, sums);
      };
      if ((!A::kDepthMajor && !B::kDepthMajor) || layers > kDepth - 16) {
#pragma unroll
        for (int d = 0; d < kDepth; d += 16) multiply(d);
      } else {
#pragma unroll 1
        for (int d = 0; d < layers; d += 16) multiply(d);
      }
    }
    if (!mine) continue;
    core::store_sums(sums, memory + Memory::kSums, plan, plan.tile(computed_here(number)), store);
  }
  simt::async_wait<0>();
}

}  // namespace plume::PLUME_KERNELS
