// How a product on the matrix core (matrix_core.h) is cut into tiles and slices.
#pragma once
#include <algorithm>

#include "engine/core/tensor.h"
#include "kernels/common/kernel.h"

namespace plume::PLUME_KERNELS {

inline constexpr int kCoreThreads = 128, kCoreRows = 128, kCoreDepth = 64, kCoreStages = 3;
inline constexpr int kShallowDepth = 32;  // of a step, where that is all
inline constexpr int kChunk = 8;          // values in 16 bytes
inline constexpr int kTallRows = 512;     // eight warps of 64 x 64 sums, or 64 x 32
// All taps of 64 channels (conv2d_taps.h): twelve warps, three for each scheduler, of 48 x 64 sums.
inline constexpr int kTapRows = 576;

constexpr int core_threads(int rows) {
  return rows == kTapRows ? kTapRows / 48 * 32 : rows == kTallRows ? kTallRows / 64 * 32 : kCoreThreads;
}

// On a multiprocessor, of tiles with so many columns and rows: as registers and shared memory allow.
constexpr int core_blocks(int columns, int step = kCoreDepth, int rows = kCoreRows) {
  if (rows > kCoreRows) return 1;
  if (step == kShallowDepth) return columns == 32 ? 4 : columns == 64 ? 3 : 2;
  return columns == 32 ? 3 : 2;
}

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
  int row_tiles, column_tiles, slices, step, steps, steps_per_slice, side_by_side, places;
  FastDivide by_row_tiles, by_column_tiles;

  // `most_slices`: 1 where partial sums have nowhere to go. A slice has at least two steps, of `step` layers.
  CorePlan(int64_t rows_, int64_t columns_, int64_t depth_, int columns_of_tile, int64_t most_slices,
           int step_ = kCoreDepth, int rows_of_tile = kCoreRows)
      : rows(int(rows_)),
        columns(int(columns_)),
        depth(int(depth_)),
        row_tiles(int(ceil_div(rows_, rows_of_tile))),
        column_tiles(int(ceil_div(columns_, columns_of_tile))),
        step(step_),
        steps(int(ceil_div(depth_, step_))),
        side_by_side(core_blocks(columns_of_tile, step_, rows_of_tile)),
        places(side_by_side * simt::multiprocessors()),
        by_row_tiles(row_tiles),
        by_column_tiles(column_tiles) {
    const int64_t wanted = places / std::max<int64_t>(int64_t(row_tiles) * column_tiles, 1);
    slices = int(std::clamp<int64_t>(std::min<int64_t>(wanted, steps / 2), 1, most_slices));
    steps_per_slice = int(ceil_div(steps, slices));
    if (steps > 0) slices = int(ceil_div(steps, steps_per_slice));
  }
  PLUME_HD int tiles() const { return row_tiles * column_tiles * slices; }
  // A multiple of the tiles side by side where a block that always has the same columns copies these once.
  // One alone on a multiprocessor has as many tiles as any other, but for the last.
  int blocks() const {
    if (side_by_side == 1) return int(ceil_div(tiles(), ceil_div(tiles(), places)));
    const bool kept = slices == 1 && (steps == 1 || steps == kCoreStages) && column_tiles <= places / 8;
    return std::min(tiles(), kept ? places - places % column_tiles : places);
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
    return tile.slice * steps_per_slice * step;
  }
  __device__ __forceinline__ int layers_of(const Tile& tile) const { return depth - first_layer(tile); }
  __device__ __forceinline__ int steps_of(const Tile& tile) const {
    return min(steps - tile.slice * steps_per_slice, steps_per_slice);
  }
  // Do all tiles of a block multiply the same columns, and each step's in the same stage?
  __device__ __forceinline__ bool keeps_columns() const {
    return int(gridDim.x) % column_tiles == 0 && slices == 1 && (steps == 1 || steps == kCoreStages);
  }
  PLUME_HD int padded_columns() const { return (columns + kChunk - 1) / kChunk * kChunk; }
};

// The columns of a tile that waste least; of equals the most, which read rows the least often.
constexpr int core_columns(int64_t columns) {
  return columns <= 32 ? 32 : columns <= 64 || (columns + 63) / 64 % 2 != 0 ? 64 : 128;
}
// Narrower ones where there are few rows, so that more blocks have a tile.
constexpr int core_columns(int64_t rows, int64_t columns) {
  constexpr int64_t kFewRows = 1024;
  return rows > kFewRows ? core_columns(columns) : columns <= 32 ? 32 : 64;
}
// The same where there may be 96, too. A deep product reads its operands for longer than it stores its sums:
// there 128 columns are worth some that are wasted.
constexpr int core_columns_by_32(int64_t rows, int64_t columns, int64_t depth) {
  if (core_columns(rows, columns) == 32 || columns <= 64 || core_columns(rows, 128) != 128)
    return core_columns(rows, columns);
  const int64_t by_96 = (columns + 95) / 96 * 96, by_128 = (columns + 127) / 128 * 128;
  return by_96 < by_128 && (depth <= 2 * kCoreDepth || 7 * by_128 > 8 * by_96) ? 96 : 128;
}

}  // namespace plume::PLUME_KERNELS
