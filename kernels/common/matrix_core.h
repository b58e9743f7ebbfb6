// A product of matrices in 16 bits on tensor cores, sums in float: out[row, column] = sum over depth of
// A[row, depth] * B[column, depth]. Whose matrices these are is the caller's business: convolutions bring
// pixels and filters (conv2d_patches.h).
//
// A tile of the result is 128 rows x kColumns (32, 64 or 128); 128 threads, 4 warps with sums as square as
// registers allow, since a warp reads its rows and its columns for every layer (CoreShape).
// Depth passes through shared memory in layers of 64 (128 bytes of a row): three stages, two of them on their
// way by cp.async while the third is multiplied; one barrier per step. Rows of shared memory have no padding,
// their 16-byte chunks are permuted (swizzle), so that eight rows' chunks lie in different banks whether they
// are written, or read by ldmatrix. An operand comes in one of two shapes:
//   kDepthMajor  [rows][64]: neighbours in memory are neighbours in depth
//   otherwise    [64][rows]: neighbours in memory are rows; ldmatrix transposes
//
// Blocks are persistent: each takes tile after tile, and the copies of the next tile begin before the last
// one is stored. Where there are fewer tiles than places for blocks, depth is cut into slices; partial sums
// go to memory, and a second launch adds them in order. Results repeat bit for bit.
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
#include "kernels/common/matrix_plan.h"
#include "kernels/common/mma.h"
#include "kernels/common/vector.h"

namespace plume::PLUME_KERNELS {

// Keeps what follows from x out of registers while the loop before runs: the compiler would compute it ahead.
__device__ __forceinline__ int computed_here(int x) {
#if !SIMT_EMU
  asm volatile("" : "+r"(x));
#endif
  return x;
}

// Where a chunk lies in a tile with kChunks of them in a row, in bytes.
template <int kChunks>
__device__ __forceinline__ int swizzled(int row, int chunk) {
  static_assert(kChunks >= 4);
  const int turn = kChunks >= 8 ? row & 7 : row >> 1 & 3;
  return (row * kChunks + (chunk ^ turn)) * 16;
}

// The units of a tile that a thread copies, of kUnit values each: one column of units, every kStep-th row.
template <int kRows, bool kDepthMajor, int kUnit = kChunk>
struct CopyPlan {
  static constexpr int kChunks = kDepthMajor ? kCoreDepth / kChunk : kRows / kChunk;  // in a row
  static constexpr int kUnits = kChunks * (kChunk / kUnit);
  static constexpr int kStep = kCoreThreads / kUnits;
  static constexpr int kPasses = (kDepthMajor ? kRows : kCoreDepth) / kStep;
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

// How the warps share a tile: kWarpRows x kWarpColumns sums each. Two blocks of 128 threads leave a thread
// 255 registers, of which 64 x 64 sums of a warp take 128.
template <int kColumns>
struct CoreShape {
  static_assert(kColumns == 32 || kColumns == 64 || kColumns == 128);
  static constexpr int kWarpRows = kColumns == 32 ? 32 : 64, kWarpColumns = kColumns == 128 ? 64 : 32;
  static constexpr int kWarpsDown = kCoreRows / kWarpRows;
  static_assert(kWarpsDown * (kColumns / kWarpColumns) * 32 == kCoreThreads);

  __device__ static int warp_row() { return int(threadIdx.x) / 32 % kWarpsDown * kWarpRows; }
  __device__ static int warp_column() { return int(threadIdx.x) / (32 * kWarpsDown) * kWarpColumns; }
};

template <int kColumns>
struct CoreMemory {
  static constexpr int kA = kCoreRows * kCoreDepth * 2, kB = kColumns * kCoreDepth * 2, kStage = kA + kB;
  static constexpr int kSums = kCoreThreads / 32 * 1024;  // of a warp 8 rows x 32 floats
  static constexpr int kBytes = kCoreStages * kStage + kSums;
};

// A warp's sums.
template <int kColumns>
struct CoreSums {
  static constexpr int kRowTiles = CoreShape<kColumns>::kWarpRows / 16;  // of 16 rows
  static constexpr int kTiles = CoreShape<kColumns>::kWarpColumns / 8;   // of 8 columns
  float values[kRowTiles][kTiles][4];

  __device__ void clear() {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
      for (int n = 0; n < kTiles; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) values[m][n][i] = 0.0f;
  }
};

namespace core {

__device__ __forceinline__ int lane() { return int(threadIdx.x) % 32; }

// Fragments of 16 rows, of either operand: matrices in the order rows 0-7, 8-15 at depth d, then at d + 8
// (kRowsFirst), or rows 0-7 at depth d, d + 8, then rows 8-15. Where the lane's row of them lies in the tile:
// begin() for the warp's first row, at() for the i-th 16 rows at depth d. Of the permuted chunk number a step
// flips bits that are 0 for the first.
template <int kRows, bool kDepthMajor, bool kRowsFirst>
struct Fragments {
  __device__ static int begin(int row) {
    const int low = lane() % 8, inner = lane() / 8 % 2, outer = lane() / 16;
    const int row_half = kRowsFirst ? inner : outer, depth_half = kRowsFirst ? outer : inner;
    return kDepthMajor ? swizzled<kCoreDepth / kChunk>(row + row_half * 8 + low, depth_half)
                       : swizzled<kRows / kChunk>(depth_half * 8 + low, row / 8 + row_half);
  }
  __device__ static int at(int begin, int i, int d) {
    return kDepthMajor ? (begin ^ 2 * d) + i * 16 * 2 * kCoreDepth : (begin ^ 32 * i) + d * 2 * kRows;
  }
  __device__ static void load(uint32_t (&r)[4], const char* from) {
    if constexpr (kDepthMajor)
      ldmatrix_x4(r, from);
    else
      ldmatrix_x4_trans(r, from);
  }
};

// sums += the product over 16 layers.
template <class T, int kColumns, class Left, class Right>
__device__ __forceinline__ void multiply_16(const char* stage, int a, int b, int d,
                                            CoreSums<kColumns>& sums) {
  constexpr int kRowTiles = CoreSums<kColumns>::kRowTiles;
  uint32_t left[kRowTiles][4];
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) Left::load(left[m], stage + Left::at(a, m, d));
#pragma unroll
  for (int n = 0; n < CoreSums<kColumns>::kTiles / 2; ++n) {
    uint32_t right[4];
    Right::load(right, stage + CoreMemory<kColumns>::kA + Right::at(b, n, d));
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const uint32_t fragment[2] = {right[2 * i], right[2 * i + 1]};
        mma_m16n8k16(T{}, sums.values[m][2 * n + i], left[m], fragment);
      }
  }
}

// Where a row's 16 bytes of sums lie in the warp's 8 rows of 32 floats: pairs are written and 16 bytes read
// without bank conflicts.
__device__ __forceinline__ int sums_unit(int row, int unit) {
  return row * 32 + (unit ^ ((row & 3) << 1 ^ (row & 1))) * 4;
}

// Calls store(row, column, eight sums of neighbouring columns) for the warp's part, lanes side by side in
// memory. `buffers`: 256 floats for each warp.
template <int kColumns, class Store>
__device__ __forceinline__ void store_sums(const CoreSums<kColumns>& sums, char* buffers, int first_row,
                                           int first_column, const CorePlan& plan, Store&& store) {
  using Shape = CoreShape<kColumns>;
  constexpr int kSpan = 32;  // columns at once
  constexpr int kTilesAtOnce = kSpan / 8;
  const int thread = computed_here(int(threadIdx.x)), me = thread % 32, group = me / 4, pair = me % 4;
  float* const buffer = reinterpret_cast<float*>(buffers) + thread / 32 * 256;
  const int row = me / kTilesAtOnce, chunk = me % kTilesAtOnce;
#pragma unroll
  for (int m = 0; m < CoreSums<kColumns>::kRowTiles; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int part = 0; part < Shape::kWarpColumns / kSpan; ++part) {
        __syncwarp();
#pragma unroll
        for (int n = 0; n < kTilesAtOnce; ++n) {
          const float(&from)[4] = sums.values[m][part * kTilesAtOnce + n];
          Pack<float, 2> two;
          two[0] = from[2 * half];
          two[1] = from[2 * half + 1];
          two.store(buffer + sums_unit(group, 2 * n + pair / 2) + pair % 2 * 2);
        }
        __syncwarp();
        const int to_row = first_row + Shape::warp_row() + 16 * m + 8 * half + row;
        const int to_column = first_column + Shape::warp_column() + part * kSpan + chunk * 8;
        if (to_row < plan.rows && to_column < plan.columns) {
          const auto low = Pack<float, 4>::load(buffer + sums_unit(row, 2 * chunk)),
                     high = Pack<float, 4>::load(buffer + sums_unit(row, 2 * chunk + 1));
          const float eight[8] = {low[0], low[1], low[2], low[3], high[0], high[1], high[2], high[3]};
          store(to_row, to_column, eight);
        }
      }
}

}  // namespace core

// Where a slice's sums wait for the others.
__device__ __forceinline__ void store_partial(float* partial, const CorePlan& plan, int slice, int row,
                                              int column, const float (&sums)[kChunk]) {
  float* to = partial + (int64_t(slice) * plan.rows + row) * plan.padded_columns() + column;
#pragma unroll
  for (int part = 0; part < kChunk; part += 4) {
    Pack<float, 4> pack;
#pragma unroll
    for (int i = 0; i < 4; ++i) pack[i] = sums[part + i];
    pack.store(to + part);
  }
}

// The block's tiles, each to store(slice, row, column, sums of eight neighbouring columns).
template <class T, int kColumns, class A, class B, class Plan, class Store>
__device__ __forceinline__ void matrix_core(A a, B b, const Plan& plan, Store&& store) {
  using Memory = CoreMemory<kColumns>;
  char* const stages = simt::dyn_smem<char>();
  const int tiles = plan.row_tiles * plan.column_tiles * plan.slices;
  int next = int(blockIdx.x), steps_left = 0;
  const auto begin = [&] {
    if (next >= tiles) return;
    const CorePlan::Tile tile = plan.tile(next);
    const int first_layer = plan.first_layer(tile);
    a.begin(tile.row * kCoreRows, first_layer);
    b.begin(tile.column * kColumns, first_layer);
    steps_left = plan.steps_of(tile);
  };
  const auto fetch = [&](char* stage) {
    if (steps_left > 0) {
      a.fetch(stage);
      b.fetch(stage + Memory::kA);
      if (--steps_left == 0) {
        next += int(gridDim.x);
        begin();
      }
    }
    simt::async_commit();
  };
  begin();
#pragma unroll 1
  for (int i = 0; i < kCoreStages - 1; ++i) fetch(stages + i * Memory::kStage);

  using Left = core::Fragments<kCoreRows, A::kDepthMajor, true>;
  using Right = core::Fragments<kColumns, B::kDepthMajor, false>;
  const int left = Left::begin(CoreShape<kColumns>::warp_row()),
            right = Right::begin(CoreShape<kColumns>::warp_column());
  int read = 0;  // the stage that is multiplied; the copies go to the one before
  for (int number = int(blockIdx.x); number < tiles; number += int(gridDim.x)) {
    const CorePlan::Tile tile = plan.tile(number);
    const bool mine = tile.row * kCoreRows + CoreShape<kColumns>::warp_row() < plan.rows &&
                      tile.column * kColumns + CoreShape<kColumns>::warp_column() < plan.columns;
    CoreSums<kColumns> sums;
    sums.clear();
    if constexpr (requires { a.follow(0, 0); }) a.follow(tile.row * kCoreRows, plan.first_layer(tile));
    int layers = plan.layers_of(tile);
    for (int steps = plan.steps_of(tile); steps > 0; --steps, layers -= kCoreDepth) {
      simt::async_wait<kCoreStages - 2>();
      if constexpr (requires { a.arrived(stages); }) a.arrived(stages + read * Memory::kStage);
      __syncthreads();  // the stage is in place for all, and nobody reads the one before any more
      fetch(stages + (read == 0 ? kCoreStages - 1 : read - 1) * Memory::kStage);
      const char* const stage = stages + read * Memory::kStage;
      read = read + 1 == kCoreStages ? 0 : read + 1;
      if (!mine) continue;
      const int from_a = computed_here(left), from_b = computed_here(right);
      if (!A::kDepthMajor || layers > kCoreDepth - 16) {
#pragma unroll
        for (int d = 0; d < kCoreDepth; d += 16)
          core::multiply_16<T, kColumns, Left, Right>(stage, from_a, from_b, d, sums);
      } else {
#pragma unroll 1
        for (int d = 0; d < layers; d += 16)
          core::multiply_16<T, kColumns, Left, Right>(stage, from_a, from_b, d, sums);
      }
    }
    if (!mine) continue;
    const CorePlan::Tile done = plan.tile(computed_here(number));
    core::store_sums(sums, stages + kCoreStages * Memory::kStage, done.row * kCoreRows,
                     done.column * kColumns, plan,
                     [&](int row, int column, const auto& eight) { store(done.slice, row, column, eight); });
  }
  simt::async_wait<0>();
}

// Second launch where depth was cut: adds the slices in order. A thread takes eight neighbouring columns.
template <class Store>
__global__ void __launch_bounds__(kCoreThreads)
    matrix_core_slices(const float* __restrict__ partial, const CorePlan plan, Store store) {
  const int chunks = plan.padded_columns() / kChunk;
  const int64_t at = int64_t(blockIdx.x) * kCoreThreads + threadIdx.x;
  if (at >= int64_t(plan.rows) * chunks) return;
  const int row = int(at / chunks), column = int(at - int64_t(row) * chunks) * kChunk;
  const int64_t slice = int64_t(plan.rows) * plan.padded_columns();
  const float* from = partial + at * kChunk;
  float sums[kChunk] = {};
  for (int s = 0; s < plan.slices; ++s, from += slice) {
    const auto low = Pack<float, 4>::load(from), high = Pack<float, 4>::load(from + 4);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      sums[i] += low[i];
      sums[4 + i] += high[i];
    }
  }
  store(row, column, sums);
}

template <class Store>
void launch_core_slices(const Context& context, const float* partial, const CorePlan& plan,
                        const Store& store) {
  const int64_t threads = int64_t(plan.rows) * plan.padded_columns() / kChunk;
  simt::launch<matrix_core_slices<Store>>(
      {dim3(unsigned(ceil_div(threads, kCoreThreads))), dim3(kCoreThreads), 0, stream_of(context)}, partial,
      plan, store);
}

}  // namespace plume::PLUME_KERNELS
