// Which tile a product on the matrix core gets. For 128 x 128 sums and 16 layers, beside 206 clocks of
// mma.sync:
//
//   tile       warps of       blocks  KB from the L2  ldmatrix  copies, lines  wavefronts
//   128 x  96   4, 32 x 96    two          9.3          171         149           320
//   128 x 128   4, 64 x 64    two          8            128         128           256
//   192 x 128   8, 48 x 64    one          6.7          149         107           256
//   256 x 128   8, 64 x 64    one          6            128          96           224
//   192 x 192  12, 48 x 64    one          5.3          149          85           235
//
// Two blocks side by side hide each other's ends, and may be cut into slices. A block that has the
// multiprocessor for itself has as many sums as its registers hold, so that it reads the fewest bytes; its
// columns stay in shared memory up to 256 layers. What speaks against it, the last of few rounds, and edges
// that are cut off, core_clocks() weighs for the product at hand.
#pragma once
#include <algorithm>
#include <initializer_list>

#include "kernels/common/matrix_core.h"

namespace plume::PLUME_KERNELS {

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

struct TileSize {
  int rows, columns;
};

// Of the multiprocessor with the most tiles, for wavefronts of shared memory and bytes from the L2, one after
// the other.
inline double core_clocks(const CorePlan& plan, TileSize tile) {
  constexpr double kL2Bytes = 24;  // a clock, for each multiprocessor of an H100
  const int blocks = plan.blocks();
  const double rounds = double(ceil_div(plan.tiles(), std::min(blocks, simt::multiprocessors())));
  const double down = warp_rows(tile.columns, tile.rows), across = warp_columns(tile.columns);
  const auto of_16_layers = [&](double rows, double columns) {
    const double copied = rows + columns / (plan.keeps_columns(blocks) ? rounds : 1);
    return rows * columns * (down + across) / (4 * down * across) + copied / 2 + copied * 32 / kL2Bytes;
  };
  // Edges that no warp multiplies are a gain only where every block meets them.
  const auto length = [](int64_t all, int of_tile, int of_warp, bool mixed) {
    const auto multiplied = double(ceil_div(all, of_warp) * of_warp);
    return mixed ? multiplied / double(ceil_div(all, of_tile)) : std::min(multiplied, double(of_tile));
  };
  return plan.steps_per_slice * plan.step / 16 * rounds *
         of_16_layers(length(plan.rows, tile.rows, int(down), rounds > 1),
                      length(plan.columns, tile.columns, int(across),
                             rounds > 1 && std::gcd(blocks, plan.column_tiles) == 1));
}

inline constexpr TileSize kWide192{kWideRows, 192}, kWide128{kWideRows, 128}, kLarge128{kLargeRows, 128};

// The tile of a product in chunks of 16 bytes: kCoreRows x `columns_of_core`, or one of `others`, whose depth
// is cut into `slices` at most.
inline TileSize choose_tile(int64_t rows, int64_t columns, int64_t depth, int columns_of_core, int64_t slices,
                            std::initializer_list<TileSize> others) {
  TileSize best{kCoreRows, columns_of_core};
  if (depth <= 2 * kCoreDepth) return best;
  const auto clocks_of = [&](TileSize tile, int64_t most_slices) {
    return core_clocks(CorePlan(rows, columns, depth, tile.columns, most_slices, kCoreDepth, tile.rows),
                       tile);
  };
  double least = clocks_of(best, std::max<int64_t>(slices, 64));
  for (const TileSize tile : others) {
    const int bytes = tile.rows == kLargeRows ? CoreMemory<128, kCoreDepth, kLargeRows>::kBytes
                      : tile.columns == 128   ? CoreMemory<128, kCoreDepth, kWideRows>::kBytes
                                              : CoreMemory<192, kCoreDepth, kWideRows>::kBytes;
    const double clocks = clocks_of(tile, slices);
    if (bytes > simt::most_shared_bytes() || 20 * clocks > 19 * least) continue;
    least = clocks;
    best = tile;
  }
  return best;
}

}  // namespace plume::PLUME_KERNELS
