// How a product on the matrix core (matrix_core.h) is cut into tiles and slices.
#pragma once
#include <algorithm>

#include "engine/core/tensor.h"
#include "kernels/common/kernel.h"

namespace plume::PLUME_KERNELS {

inline constexpr int kCoreThreads = 128, kCoreRows = 128, kCoreDepth = 64, kCoreStages = 3;
inline constexpr int kCoreBlocks = 2;  // on a multiprocessor
inline constexpr int kChunk = 8;       // values in 16 bytes

// Division by a number that is known before the launch, of 0 <= n < 2^31.
struct FastDivide {
  unsigned divisor, factor = 0, shift = 0;

  explicit FastDivide(int d) : divisor(unsigned(d)) {
    while ((uint64_t{1} << shift) < divisor) ++shift;
    factor = unsigned(((uint64_t{1} << 32) * ((uint64_t{1} << shift) - divisor)) / divisor + 1);
  }
  __device__ __forceinline__ int operator()(int n) const {
    return int((__umulhi(unsigned(n), factor) + unsigned(n)) >> shift);
  }
};

// How a product is cut up. Tiles are numbered columns first, so that blocks side by side share rows.
struct CorePlan {
  int rows, columns, depth;
  int row_tiles, column_tiles, slices, steps, steps_per_slice;
  FastDivide by_row_tiles, by_column_tiles;

  // `most_slices`: 1 where partial sums have nowhere to go. A slice has at least two steps.
  CorePlan(int64_t rows_, int64_t columns_, int64_t depth_, int columns_of_tile, int64_t most_slices)
      : rows(int(rows_)),
        columns(int(columns_)),
        depth(int(depth_)),
        row_tiles(int(ceil_div(rows_, kCoreRows))),
        column_tiles(int(ceil_div(columns_, columns_of_tile))),
        steps(int(ceil_div(depth_, kCoreDepth))),
        by_row_tiles(row_tiles),
        by_column_tiles(column_tiles) {
    const int64_t places = int64_t(kCoreBlocks) * simt::multiprocessors();
    const int64_t wanted = places / std::max<int64_t>(int64_t(row_tiles) * column_tiles, 1);
    slices = int(std::clamp<int64_t>(std::min<int64_t>(wanted, steps / 2), 1, most_slices));
    steps_per_slice = int(ceil_div(steps, slices));
    if (steps > 0) slices = int(ceil_div(steps, steps_per_slice));
  }
  int tiles() const { return row_tiles * column_tiles * slices; }
  int blocks() const {
    return int(std::min<int64_t>(tiles(), int64_t(kCoreBlocks) * simt::multiprocessors()));
  }
  int64_t partial_count() const { return int64_t(slices) * rows * padded_columns(); }
  // Undefined where depth is not cut.
  Tensor partial_sums(Device device) const {
    return slices > 1 ? Tensor::empty({partial_count()}, DType::f32, device, "workspace") : Tensor();
  }
  struct Tile {
    int slice, row, column;  // in tiles
  };
  __device__ __forceinline__ Tile tile(int number) const {
    const int rest = by_column_tiles(number), slice = by_row_tiles(rest);
    return {slice, rest - slice * row_tiles, number - rest * column_tiles};
  }
  // Of a tile's share of the depth: its first layer, how many follow from there on, its steps (at least 1).
  // A plan of another kind may say otherwise for some of its columns.
  __device__ __forceinline__ int first_layer(const Tile& tile) const {
    return tile.slice * steps_per_slice * kCoreDepth;
  }
  __device__ __forceinline__ int layers_of(const Tile& tile) const { return depth - first_layer(tile); }
  __device__ __forceinline__ int steps_of(const Tile& tile) const {
    return min(steps - tile.slice * steps_per_slice, steps_per_slice);
  }
  PLUME_HD int padded_columns() const { return (columns + kChunk - 1) / kChunk * kChunk; }
};

// The columns of a tile that waste least.
constexpr int core_columns(int64_t columns) {
  return columns <= 32 ? 32 : columns <= 64 || (columns + 63) / 64 % 2 != 0 ? 64 : 128;
}
// Narrower ones where there are few rows, so that more blocks have a tile.
constexpr int core_columns(int64_t rows, int64_t columns) {
  constexpr int64_t kFewRows = 1024;
  return rows > kFewRows ? core_columns(columns) : columns <= 32 ? 32 : 64;
}

}  // namespace plume::PLUME_KERNELS
