// How batch norm's passes walk [rows, channels]: in 16-byte accesses whatever the number of channels, and
// where no sums are taken without a lane that has nothing to do.
#pragma once
#include <numeric>

#include "kernels/common/row_tiling.h"

namespace plume::PLUME_KERNELS {
namespace {

// [rows, columns] as the kernels walk it. Where channels are no multiple of a pack, a few rows are taken for
// one of them, so that every access still has 16 bytes: column c then belongs to channel c % channels.
struct Columns {
  int64_t rows;
  int columns, channels;

  PLUME_HD bool plain() const { return columns == channels; }
  __device__ int channel(int column) const { return plain() ? column : column % channels; }

  Columns(int64_t rows_, int channels_) : rows(rows_), columns(channels_), channels(channels_) {}
  // As x is.
  explicit Columns(const Tensor& x) : Columns(x.size() / x.dim(-1), int(x.dim(-1))) {}
  // With columns in packs of `width`; what is left has rows of its own that no pack fits.
  Columns(const Tensor& x, int width) : Columns(x) {
    int together = 1;
    while (together * channels % width != 0) ++together;
    if (rows % together != 0) return;
    rows /= together;
    columns *= together;
  }
};

// from[channel] of a pack of columns.
template <int kWidth>
__device__ __forceinline__ void load_channels(const float* __restrict__ from, const Columns& all, int column,
                                              float (&to)[kWidth]) {
  if constexpr (kWidth % 4 == 0) {
    if (all.channels % 4 == 0) {
#pragma unroll
      for (int part = 0; part < kWidth; part += 4) {
        const auto four = Pack<float, 4>::load(from + all.channel(column + part));
#pragma unroll
        for (int i = 0; i < 4; ++i) to[part + i] = four[i];
      }
      return;
    }
  }
#pragma unroll
  for (int i = 0; i < kWidth; ++i) to[i] = from[all.channel(column + i)];
}

// A block's part of a reduction over the grid: a tile of columns, a slice of rows.
struct SliceOfRows {
  unsigned tile, tiles, slice, slices;

  __device__ static SliceOfRows of_block() { return {blockIdx.x, gridDim.x, blockIdx.y, gridDim.y}; }
};

// A step of a walk is a row but where the walk says otherwise.
template <class Walk>
__device__ __forceinline__ int64_t row_of(const Walk&, int64_t step) {
  return step;
}

// How threads share the packs of [rows, columns] where no sums are taken: side by side in memory, whatever
// the length of a row. Their number is a multiple of a row's packs, so that each keeps its columns.
struct FlatTiling {
  unsigned blocks;

  FlatTiling(const Columns& all, int width) {
    constexpr int64_t kMostBlocks = 528, kPacksOfThread = 4;
    const int64_t packs = all.columns / width, multiple = packs / std::gcd(packs, int64_t(kTilingThreads));
    const int64_t useful = ceil_div(all.rows * packs, kTilingThreads * kPacksOfThread);
    blocks = unsigned(std::max<int64_t>(std::min(useful, kMostBlocks) / multiple, 1) * multiple);
  }
  simt::Launch launch(const Context& context) const {
    return {dim3(blocks), dim3(kTilingThreads), 0, stream_of(context)};
  }
};
template <int kWidth>
struct FlatWalk {
  int channel;  // the thread's first column
  int64_t first, last, step;

  __device__ explicit FlatWalk(const Columns& all) : last(all.rows) {
    const int packs = all.columns / kWidth, me = int(blockIdx.x * blockDim.x + threadIdx.x);
    first = me / packs;
    channel = (me - int(first) * packs) * kWidth;
    step = int(gridDim.x * blockDim.x) / packs;
  }
};

}  // namespace
}  // namespace plume::PLUME_KERNELS
