// How batch_norm_max_pool.cu's threads go down the columns of a pooled image.
#pragma once
#include "kernels/batch_norm_passes.h"

namespace plume::PLUME_KERNELS {
namespace {

inline constexpr int kPooledWidth = 8;  // 16-bit values of a pack

// The columns of all images' y side by side, in strips as wide as a block has rows of threads. A turn is a
// strip's row of y; a slice, of one block, so many turns, down a strip and on in the next one.
struct Strips {
  int columns, width, rows;  // of all images, of one
  int turns, turns_of_slice;
};

struct StripTiling {
  Strips strips;
  dim3 grid, block;

  explicit StripTiling(const Tensor& y) {
    const RowTiling lanes(1, y.dim(3) / kPooledWidth, kReductionLanes);
    block = lanes.block;
    strips.width = int(y.dim(2));
    strips.rows = int(y.dim(1));
    strips.columns = int(y.dim(0)) * strips.width;
    strips.turns = int(ceil_div(strips.columns, block.y)) * strips.rows;
    const int64_t blocks = std::max<int64_t>(kReductionBlocks / lanes.grid.x, 1);
    strips.turns_of_slice = int(ceil_div(strips.turns, blocks));
    grid = dim3(lanes.grid.x, unsigned(ceil_div(strips.turns, strips.turns_of_slice)));
  }
  simt::Launch launch(const Context& context) const { return {grid, block, 0, stream_of(context)}; }
};

__device__ __forceinline__ int first_channel() {
  return int(blockIdx.x * blockDim.x + threadIdx.x) * kPooledWidth;
}

// Calls down(image, column, first row, end) for each stretch of a strip in the block's slice.
template <class F>
__device__ __forceinline__ void walk_strips(const Strips& strips, F&& down) {
  const int last = min(int(blockIdx.y + 1) * strips.turns_of_slice, strips.turns);
  for (int turn = int(blockIdx.y) * strips.turns_of_slice; turn < last;) {
    const int strip = turn / strips.rows, first = turn - strip * strips.rows;
    const int end = min(strips.rows, first + last - turn);
    const int column = strip * int(blockDim.y) + int(threadIdx.y), image = column / strips.width;
    if (column < strips.columns) down(image, column - image * strips.width, first, end);
    turn += end - first;
  }
}

// A pack of 16-bit values as its pairs.
struct Pairs {
  static constexpr int kCount = kPooledWidth / 2;
  uint32_t of[kCount];

  Pairs() = default;
  __device__ explicit Pairs(const uint4& word) { memcpy(of, &word, sizeof of); }
  __device__ uint4 word() const {
    uint4 word;
    memcpy(&word, of, sizeof word);
    return word;
  }
};

}  // namespace
}  // namespace plume::PLUME_KERNELS
