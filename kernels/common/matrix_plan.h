// How a product on the matrix core (matrix_core.h) is cut into tiles and slices.
#pragma once
#include <algorithm>
#include <numeric>

#include "engine/core/tensor.h"
#include "kernels/common/kernel.h"

namespace plume::PLUME_KERNELS {

inline constexpr int kCoreThreads = 128, kCoreRows = 128, kCoreDepth = 64, kCoreStages = 3;
inline constexpr int kShallowDepth = 32;  // of a step, where that is all
inline constexpr int kChunk = 8;          // values in 16 bytes
inline constexpr int kTallRows = 512;     // eight warps of 64 x 64 sums, or 64 x 32
// All taps of 64 channels (conv2d_taps.h): twelve warps, three for each scheduler, of 48 x 64 sums.
inline constexpr int kTapRows = 576;
// Twelve warps of 48 x 64 sums, 192 columns, or eight, 128; eight of 64 x 64, 128 columns (matrix_tiles.h).
inline constexpr int kWideRows = 192, kLargeRows = 256;

// The part of a tile that a warp has. It reads its rows and its columns for every layer, so that square parts
// are best; whole rows make longer stores.
constexpr int warp_rows(int columns, int rows) {
  return rows == kTapRows || rows == kWideRows ? 48 : columns == 128 || rows > kCoreRows ? 64 : 32;
}
constexpr int warp_columns(int columns) { return columns > 96 ? 64 : columns; }

constexpr int core_threads(int rows, int columns = 64) {
  return rows == kCoreRows ? kCoreThreads : rows / warp_rows(columns, rows) * ceil_div(columns, 64) * 32;
}

// The most steps of a product whose columns stay in shared memory for all tiles of a block.
constexpr int kept_steps(int rows) {
  return rows == kWideRows || rows == kLargeRows ? 4 : rows == kCoreRows ? kCoreStages : 0;
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
  int row_tiles, column_tiles, slices, step, steps, steps_per_slice, most_kept, side_by_side, places;
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
        most_kept(kept_steps(rows_of_tile)),
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
  PLUME_HD bool may_keep() const { return slices == 1 && steps <= most_kept; }
  // Do all tiles of so many blocks' each have the same columns, which stay in shared memory?
  PLUME_HD bool keeps_columns(int blocks) const { return may_keep() && blocks % column_tiles == 0; }
  // A multiple of the tiles side by side where a block that always has the same columns copies these once.
  // One alone on a multiprocessor has as many tiles as any other, but for the last; columns that are kept are
  // then worth a sixth more of them.
  int blocks() const {
    const bool kept = may_keep() && column_tiles <= places / 8;
    if (side_by_side > 1) return std::min(tiles(), kept ? places - places % column_tiles : places);
    const int rounds = int(ceil_div(tiles(), places));
    if (kept) {
      const int rounds_kept = int(ceil_div(row_tiles, places / column_tiles));
      if (6 * rounds_kept <= 7 * rounds) return int(ceil_div(row_tiles, rounds_kept)) * column_tiles;
    }
    // Some more, where all blocks then meet all columns: the last ones may be few.
    const int even = int(ceil_div(tiles(), rounds));
    for (int more = even; rounds > 1 && more <= places; ++more)
      if (std::gcd(more, column_tiles) == 1) return more;
    return even;
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
  PLUME_HD int padded_columns() const { return (columns + kChunk - 1) / kChunk * kChunk; }
};

}  // namespace plume::PLUME_KERNELS
