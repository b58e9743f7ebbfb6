// Products of filters that leave the size of an image as it is. What a tap reads for 128 neighbouring pixels
// are then 128 neighbouring pixels, so many further on in memory: a strip of 64 channels of these pixels and
// their surroundings comes into shared memory once and serves all taps, where patches (conv2d_patches.h) come
// once per tap. Pixels outside of their image are read from a row of zeros instead. Depth is (64 channels,
// tap), the step of one tap as deep as there are channels.
//
// Everything else is as in matrix_core.h; two strips and three stages of the other operand, which is an
// object with
//   static constexpr bool kDepthMajor;
//   void begin(int row);                         // of a tile
//   void fetch(char* tile, int block, int tap);  // starts the thread's copies of a tap's layers 64 block ...
#pragma once
#include "kernels/conv2d_patches.h"

namespace plume::PLUME_KERNELS {

struct StripWalk {
  PatchWalk walk;
  int first;  // pixels from a sum's number to the first one in memory that its taps read
  int span;   // from there to the last one

  explicit StripWalk(const PatchWalk& walk_) : walk(walk_) {
    const int end = shift(walk.taps_down - 1, walk.taps_right - 1);
    first = std::min(shift(0, 0), end);
    span = std::max(shift(0, 0), end) - first;
  }
  PLUME_HD int shift(int r, int t) const {
    return (walk.top + r * walk.down) * walk.width + walk.left + t * walk.right;
  }
  PLUME_HD int pixels_of_strip() const { return kCoreRows + span; }
  PLUME_HD int strip_bytes() const { return pixels_of_strip() * kCoreDepth * 2; }
  int channel_blocks() const { return (walk.channels + kCoreDepth - 1) / kCoreDepth; }
  // As CorePlan counts it.
  int64_t depth() const { return int64_t(channel_blocks()) * walk.taps() * kCoreDepth; }
};

template <int kColumns>
struct StripMemory {
  static constexpr int kStage = kColumns * kCoreDepth * 2;
  static constexpr int kSums = kCoreStages * kStage, kZeros = kSums + CoreShape<kColumns>::kBufferBytes;
  static constexpr int kStrips = kZeros + 2 * kCoreDepth;
  static int bytes(const StripWalk& strips) { return kStrips + 2 * strips.strip_bytes(); }
};

// For sums [pixels, columns] in tiles of so many columns? Few channels leave most of a step empty. A strip
// must last two steps, which it does where depth is not cut; two blocks must fit on a multiprocessor.
inline bool fits_strips(const PatchWalk& walk, int64_t columns, int tile) {
  if (walk.taps() < 2 || walk.scale != 1 || walk.rows != walk.height || walk.columns != walk.width ||
      walk.channels % kChunk != 0 || walk.channels < 32 || tile <= 32)
    return false;
  const StripWalk strips(walk);
  const int bytes = tile == 64 ? StripMemory<64>::bytes(strips) : StripMemory<128>::bytes(strips);
  return bytes <= (227 / 2 - 1) * 1024 &&
         CorePlan(walk.pixels(), columns, strips.depth(), tile, 64).slices == 1;
}

// Of shared memory.
template <int kColumns>
size_t core_bytes(Reads reads, const StripWalk& strips) {
  return reads == Reads::strips
             ? size_t(StripMemory<kColumns>::bytes(strips))
             : size_t(step_of(reads) == kShallowDepth ? CoreMemory<kColumns, kShallowDepth>::kBytes
                                                      : CoreMemory<kColumns>::kBytes);
}

// Rows: filters k of w [k, tap, channels].
template <class T, int kRows>
struct StripFilterRows {
  static constexpr bool kDepthMajor = true;
  using Plan = CopyPlan<kRows, true>;
  const T* w;
  int filters, taps, channels;
  int filter = 0;

  __device__ StripFilterRows(const T* w_, int filters_, const PatchWalk& walk)
      : w(w_), filters(filters_), taps(walk.taps()), channels(walk.channels) {}
  __device__ void begin(int row) { filter = row + Plan::row(0); }
  __device__ void fetch(char* tile, int block, int tap) {
    const int to = Plan::begin(), channel = block * kCoreDepth + Plan::value();
    const int next = (filter * taps + tap) * channels + channel;
#pragma unroll
    for (int pass = 0; pass < Plan::kPasses; ++pass)
      if (filter + pass * Plan::kStep < filters)
        copy_unit<kChunk, false>(Plan::place(tile, to, pass),
                                 w + (next + pass * Plan::kStep * taps * channels), channel < channels);
  }
};

// Rows: channels of w [k, tap, channels]; depth: filters k.
template <class T, int kRows>
struct StripFilterLayers {
  static constexpr bool kDepthMajor = false;
  using Plan = CopyPlan<kRows, false>;
  const T* w;
  int filters, taps, channels;
  int channel = 0;

  __device__ StripFilterLayers(const T* w_, int channels_, const PatchWalk& walk)
      : w(w_), filters(walk.channels), taps(walk.taps()), channels(channels_) {}
  __device__ void begin(int row) { channel = row + Plan::value(); }
  __device__ void fetch(char* tile, int block, int tap) {
    if (channel >= channels) return;
    const int to = Plan::begin(), filter = block * kCoreDepth + Plan::row(0);
    const int next = (filter * taps + tap) * channels + channel;
#pragma unroll
    for (int pass = 0; pass < Plan::kPasses; ++pass)
      copy_unit<kChunk, false>(Plan::place(tile, to, pass), w + (next + pass * Plan::kStep * taps * channels),
                               filter + pass * Plan::kStep < filters);
  }
};

// Starts the thread's copies of a strip: 64 channels of the pixels from `first` on.
template <class T>
__device__ __forceinline__ void copy_strip(char* strip, const T* x, const StripWalk& strips, int first,
                                           int block) {
  constexpr int kChunks = kCoreDepth / kChunk, kStep = kCoreThreads / kChunks;
  const int me = computed_here(int(threadIdx.x)), channel = block * kCoreDepth + me % kChunks * kChunk;
  const int channels = strips.walk.channels, pixels = int(strips.walk.pixels());
  const T* const from = x + channel;
#pragma unroll 4
  for (int row = me / kChunks; row < strips.pixels_of_strip(); row += kStep)
    if (unsigned(first + row) < unsigned(pixels))
      copy_unit<kChunk, false>(strip + swizzled<kChunks>(row, me % kChunks), from + (first + row) * channels,
                               channel < channels);
}

// sums += the product over 16 layers; rows: where the lane's row of each 16 lies at depth 0.
template <class T, int kColumns, class Right>
__device__ __forceinline__ void multiply_strip_16(const char* memory,
                                                  const int (&rows)[CoreSums<kColumns>::kRowTiles],
                                                  const char* stage, int b, int d, CoreSums<kColumns>& sums) {
  constexpr int kRowTiles = CoreSums<kColumns>::kRowTiles;
  uint32_t left[kRowTiles][4];
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) ldmatrix_x4(left[m], memory + (rows[m] ^ 2 * d));
#pragma unroll
  for (int n = 0; n < CoreSums<kColumns>::kTiles / 2; ++n) {
    uint32_t right[4];
    Right::load(right, stage + Right::at(b, n, d));
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const uint32_t fragment[2] = {right[2 * i], right[2 * i + 1]};
        mma_m16n8k16(T{}, sums.values[m][2 * n + i], left[m], fragment);
      }
  }
}

// The block's tiles, as matrix_core() has them; x [images, height, width, channels] of the walk.
template <class T, int kColumns, class B, class Store>
__device__ __forceinline__ void strip_core(const T* x, const StripWalk& strips, B b, const CorePlan& plan,
                                           const Store& store) {
  using Memory = StripMemory<kColumns>;
  using Shape = CoreShape<kColumns>;
  constexpr int kRowTiles = CoreSums<kColumns>::kRowTiles;
  char* const memory = simt::dyn_smem<char>();
  const PatchWalk& walk = strips.walk;
  const int tiles = plan.row_tiles * plan.column_tiles * plan.slices, taps = walk.taps();
  if (threadIdx.x < kCoreDepth / kChunk)
    Pack<T, kChunk>::filled(T(0.0f)).store(reinterpret_cast<T*>(memory + Memory::kZeros) +
                                           threadIdx.x * kChunk);

  // What comes next into shared memory.
  int next = int(blockIdx.x), steps_left = 0, block = 0, tap = 0, row = 0, strip_to = 0;
  const auto begin = [&] {
    if (next >= tiles) return;
    const CorePlan::Tile tile = plan.tile(next);
    block = tap = 0;
    row = tile.row * kCoreRows;
    b.begin(tile.column * kColumns);
    steps_left = plan.steps;
  };
  const auto fetch = [&](char* stage) {
    if (steps_left > 0) {
      if (tap == 0) {
        copy_strip(memory + Memory::kStrips + strip_to * strips.strip_bytes(), x, strips, row + strips.first,
                   block);
        strip_to ^= 1;
      }
      b.fetch(stage, block, tap);
      if (++tap == taps) {
        tap = 0;
        ++block;
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
  for (int i = 0; i < kCoreStages - 1; ++i) fetch(memory + i * Memory::kStage);

  using Right = core::Fragments<kColumns, B::kDepthMajor, false>;
  const int right = Right::begin(Shape::warp_column());
  const int lane_row = Shape::warp_row() + core::lane() % 16, depth_half = core::lane() / 16;
  int read = 0, strip_read = 1;
  for (int number = int(blockIdx.x); number < tiles; number += int(gridDim.x)) {
    const CorePlan::Tile tile = plan.tile(number);
    const bool mine = tile.row * kCoreRows + Shape::warp_row() < plan.rows &&
                      tile.column * kColumns + Shape::warp_column() < plan.columns;
    unsigned inside[kRowTiles];
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
      inside[m] = walk.taps_inside(tile.row * kCoreRows + lane_row + 16 * m);
    CoreSums<kColumns> sums;
    sums.clear();
    int tap_read = 0, layers = walk.channels;  // from this strip on
    for (int steps = plan.steps; steps > 0; --steps) {
      simt::async_wait<kCoreStages - 2>();
      __syncthreads();  // stage and strip are in place for all, and nobody reads the ones before any more
      fetch(memory + (read == 0 ? kCoreStages - 1 : read - 1) * Memory::kStage);
      const char* const stage = memory + read * Memory::kStage;
      read = read + 1 == kCoreStages ? 0 : read + 1;
      if (tap_read == 0) strip_read ^= 1;
      const int r = walk.by_taps_right(tap_read), t = tap_read - r * walk.taps_right, left = layers;
      if (++tap_read == taps) {
        tap_read = 0;
        layers -= kCoreDepth;
      }
      if (!mine) continue;
      const int first = computed_here(lane_row) + strips.shift(r, t) - strips.first;
      int rows[kRowTiles];
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        const bool in = inside[m] >> r & inside[m] >> (16 + t) & 1;
        rows[m] = in ? Memory::kStrips + strip_read * strips.strip_bytes() +
                           swizzled<kCoreDepth / kChunk>(first + 16 * m, depth_half)
                     : Memory::kZeros + depth_half * 16;
      }
      const int from_b = computed_here(right);
      if (left > kCoreDepth - 16) {
#pragma unroll
        for (int d = 0; d < kCoreDepth; d += 16)
          multiply_strip_16<T, kColumns, Right>(memory, rows, stage, from_b, d, sums);
      } else {
#pragma unroll 1
        for (int d = 0; d < left; d += 16)
          multiply_strip_16<T, kColumns, Right>(memory, rows, stage, from_b, d, sums);
      }
    }
    if (!mine) continue;
    core::store_sums(sums, memory + Memory::kSums, plan, plan.tile(computed_here(number)), store);
  }
  simt::async_wait<0>();
}

}  // namespace plume::PLUME_KERNELS
