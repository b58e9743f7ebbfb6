// Products of filters that leave the size of an image as it is. What a tap reads for 128 neighbouring pixels
// are then 128 neighbouring pixels, so many further on in memory: a strip of 64 channels of these pixels and
// their surroundings comes into shared memory once and serves all taps, where patches (conv2d_patches.h) come
// once per tap. Pixels outside of their image are read from a row of zeros instead. Depth is (64 channels,
// tap), the step of one tap as deep as there are channels.
//
// Everything else is as in matrix_core.h; two strips and three stages of the other operand. Tiles of 128 rows
// have two blocks on a multiprocessor, tall ones of 512 rows and up to 64 columns one of eight warps. For 64
// columns and a step, in wavefronts and copied lines: of 128 rows 384 for ldmatrix, 128 for filters, 54 for
// pixels; of 512 rows 1024, 128 and 140, 323 for each 128, beside 413 clocks of mma.sync. From the L2 come 8
// KB of filters for 128 rows, or for 512.
//
// The other operand is an object with
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
  template <int kRows>
  PLUME_HD int pixels_of_strip() const {
    return kRows + span;
  }
  template <int kRows>
  PLUME_HD int strip_bytes() const {
    return pixels_of_strip<kRows>() * kCoreDepth * 2;
  }
  // Of a strip that comes in so many parts, each of whole passes of the block's copies.
  template <int kRows, int kThreads>
  PLUME_HD int rows_of_part(int parts) const {
    constexpr int kPass = kThreads / (kCoreDepth / kChunk);
    return (pixels_of_strip<kRows>() + parts * kPass - 1) / (parts * kPass) * kPass;
  }
  PLUME_HD int channel_blocks() const { return (walk.channels + kCoreDepth - 1) / kCoreDepth; }
  // As CorePlan counts it.
  int64_t depth() const { return int64_t(channel_blocks()) * walk.taps() * kCoreDepth; }
};

template <int kColumns, int kRows = kCoreRows>
struct StripMemory {
  static constexpr int kStage = kColumns * kCoreDepth * 2;
  static constexpr int kSums = kCoreStages * kStage,
                       kZeros = kSums + CoreShape<kColumns, kRows>::kBufferBytes;
  static constexpr int kStrips = kZeros + 2 * kCoreDepth;
  static int bytes(const StripWalk& strips) { return kStrips + 2 * strips.strip_bytes<kRows>(); }
};

// How sums [pixels, columns] in tiles of so many columns read pixels: as chunks, or strips of one of three
// heights. A strip comes in parts while the one before is multiplied, of which the first two taps are too
// early, and depth is not cut. Of 128 pixels two blocks must fit on a multiprocessor; few channels leave most
// of a step empty. Tall tiles have up to 64 columns: a warp reads 64 of each operand from shared memory for
// 64 x 64 sums, and filters come from the L2 for 512 pixels at once. A sum takes three quarters of the time
// then, but such tiles have a multiprocessor for themselves, so that the last of few rounds must pay. Wide
// ones, of 192 pixels and 128 columns, are smaller, and nearly as good.
inline Reads choose_strips(const PatchWalk& walk, int64_t columns, int tile) {
  if (walk.taps() < kCoreStages || walk.scale != 1 || walk.rows != walk.height ||
      walk.columns != walk.width || walk.channels % kChunk != 0 || walk.channels < 16)
    return Reads::chunks;
  const StripWalk strips(walk);
  const int bytes = tile == 64 ? StripMemory<64>::bytes(strips) : StripMemory<128>::bytes(strips);
  const bool fit = tile > 32 && walk.channels >= 32 && bytes <= (227 / 2 - 1) * 1024 &&
                   CorePlan(walk.pixels(), columns, strips.depth(), tile, 64).slices == 1;
  if (tile > 32 && !fit) return Reads::chunks;
  // Of a multiprocessor, in hundredths of the time that a sum takes in tiles of 128 rows: blocks side by side
  // share its time.
  const int64_t multiprocessors = simt::multiprocessors();
  const auto work = [&](int64_t rows, int64_t columns_of_tile, int64_t blocks, int64_t of_sum) {
    const int64_t tiles = ceil_div(walk.pixels(), rows) * ceil_div(columns, columns_of_tile);
    return std::min(ceil_div(tiles, multiprocessors), blocks * ceil_div(tiles, blocks * multiprocessors)) *
           rows * columns_of_tile * of_sum;
  };
  const auto room = [](int of_strips) { return of_strips <= simt::most_shared_bytes(); };
  Reads best = fit ? Reads::strips : Reads::chunks;
  int64_t least = work(kCoreRows, tile, core_blocks(tile), 100);
  const auto consider = [&](Reads reads, bool has_room, int64_t its_work) {
    if (!has_room || its_work > least) return;
    best = reads;
    least = its_work;
  };
  consider(Reads::tall_strips,
           room(tile == 32 ? StripMemory<32, kTallRows>::bytes(strips)
                           : StripMemory<64, kTallRows>::bytes(strips)),
           work(kTallRows, std::min(tile, 64), 1, 75));
  consider(Reads::wide_strips, tile == 128 && room(StripMemory<128, kWideRows>::bytes(strips)),
           work(kWideRows, 128, 1, 80));
  return best;
}

// Of shared memory.
template <int kColumns, Reads kReads>
size_t core_bytes(const StripWalk& strips) {
  constexpr int kRows = rows_of(kReads);
  return is_strips(kReads) ? size_t(StripMemory<kColumns, kRows>::bytes(strips))
                           : size_t(CoreMemory<kColumns, step_of(kReads), kRows>::kBytes);
}

// Rows: filters k of w [k, tap, channels].
template <class T, int kRows, int kThreads = kCoreThreads>
struct StripFilterRows {
  static constexpr bool kDepthMajor = true;
  using Plan = CopyPlan<kRows, true, kChunk, kCoreDepth, kThreads>;
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
template <class T, int kRows, int kThreads = kCoreThreads>
struct StripFilterLayers {
  static constexpr bool kDepthMajor = false;
  using Plan = CopyPlan<kRows, false, kChunk, kCoreDepth, kThreads>;
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

// Starts the thread's copies of `count` rows of a strip, from row `begin` on; the strip is 64 channels of the
// pixels from `first` on.
template <int kRows, int kThreads, class T>
__device__ __forceinline__ void copy_strip(char* strip, const T* x, const StripWalk& strips, int first,
                                           int block, int begin, int count) {
  constexpr int kChunks = kCoreDepth / kChunk, kStep = kThreads / kChunks;
  static_assert(kStep % 8 == 0, "rows of all passes are permuted alike");
  const int me = computed_here(int(threadIdx.x)), channel = block * kCoreDepth + me % kChunks * kChunk;
  const int channels = strips.walk.channels, pixels = int(strips.walk.pixels());
  const int end = min(begin + count, strips.pixels_of_strip<kRows>());
  int row = begin + me / kChunks, from = (first + row) * channels + channel;
  char* to = strip + swizzled<kChunks>(row, me % kChunks);
#pragma unroll 1
  for (; row < end; row += kStep, from += kStep * channels, to += kStep * kChunks * 16)
    if (unsigned(first + row) < unsigned(pixels)) copy_unit<kChunk, false>(to, x + from, channel < channels);
}

// The block's tiles, as matrix_core() has them; x [images, height, width, channels] of the walk. kUsed:
// columns of a tile that are multiplied.
template <class T, int kColumns, int kRows = kCoreRows, int kUsed = kColumns, class B, class Store>
__device__ __forceinline__ void strip_core(const T* x, const StripWalk& strips, B b, const CorePlan& plan,
                                           const Store& store) {
  using Memory = StripMemory<kColumns, kRows>;
  using Shape = CoreShape<kColumns, kRows>;
  constexpr int kRowTiles = CoreSums<kColumns, kRows>::kRowTiles, kRowBytes = 2 * kCoreDepth;
  char* const memory = simt::dyn_smem<char>();
  const PatchWalk& walk = strips.walk;
  const int tiles = plan.row_tiles * plan.column_tiles, taps = walk.taps();
  if (threadIdx.x < kCoreDepth / kChunk)
    Pack<T, kChunk>::filled(T(0.0f)).store(reinterpret_cast<T*>(memory + Memory::kZeros) +
                                           threadIdx.x * kChunk);

  // What comes next into shared memory: a tap's stage, and a part of the strip that follows the tap's own.
  // The strip before that one, whose place it takes, is read until the stages on their way are multiplied.
  constexpr int kParted = kCoreStages - 1;
  const int part = strips.template rows_of_part<kRows, Shape::kThreads>(taps - kParted);
  int next = int(blockIdx.x), block = 0, tap = 0;
  int strip_next = next, strip_block = 0, strip_to = 0;
  const auto fetch_strip = [&](int from, int rows) {
    if (strip_next >= tiles) return;
    const int row = plan.tile(strip_next).row * kRows + strips.first;
    copy_strip<kRows, Shape::kThreads>(
        memory + Memory::kStrips + strip_to * strips.template strip_bytes<kRows>(), x, strips, row,
        strip_block, from, rows);
  };
  const auto next_strip = [&] {
    strip_to ^= 1;
    if (++strip_block < strips.channel_blocks()) return;
    strip_block = 0;
    strip_next += int(gridDim.x);
  };
  const auto begin = [&] {
    if (next < tiles) b.begin(plan.tile(next).column * kColumns);
  };
  const auto fetch = [&](char* stage) {
    if (next < tiles) {
      b.fetch(stage, block, tap);
      if (tap >= kParted) fetch_strip((tap - kParted) * part, part);
      if (++tap == taps) {
        tap = 0;
        next_strip();
        if (++block == strips.channel_blocks()) {
          block = 0;
          next += int(gridDim.x);
          begin();
        }
      }
    }
    simt::async_commit();
  };
  begin();
  fetch_strip(0, strips.template pixels_of_strip<kRows>());
  next_strip();
#pragma unroll 1
  for (int i = 0; i < kCoreStages - 1; ++i) fetch(memory + i * Memory::kStage);

  using Right = core::Fragments<kColumns, B::kDepthMajor, false>;
  const int right = Right::begin(Shape::warp_column());
  const int lane_row = Shape::warp_row() + core::lane() % 16, depth_half = core::lane() / 16;
  int read = 0, strip_read = 1;
  for (int number = int(blockIdx.x); number < tiles; number += int(gridDim.x)) {
    const CorePlan::Tile tile = plan.tile(number);
    const bool mine = tile.row * kRows + Shape::warp_row() < plan.rows &&
                      tile.column * kColumns + Shape::warp_column() < plan.columns;
    unsigned inside[kRowTiles];
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) inside[m] = walk.taps_inside(tile.row * kRows + lane_row + 16 * m);
    CoreSums<kColumns, kRows> sums;
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
      // A row of zeros is read where the pixel's own chunk would have been, from the same banks.
      const int first = computed_here(lane_row) + strips.shift(r, t) - strips.first;
      const int from = swizzled<kCoreDepth / kChunk>(first, depth_half);
      const int from_strip = Memory::kStrips + strip_read * strips.template strip_bytes<kRows>() + from;
      const unsigned bits = 1u << r | 1u << (16 + t);
      int rows[kRowTiles];
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m)
        rows[m] =
            (inside[m] & bits) == bits ? from_strip + 16 * kRowBytes * m : Memory::kZeros + from % kRowBytes;
      const int from_b = computed_here(right);
      const auto multiply = [&](int d) {
        uint32_t pixels[kRowTiles][4];
#pragma unroll
        for (int m = 0; m < kRowTiles; ++m) ldmatrix_x4(pixels[m], memory + (rows[m] ^ 2 * d));
        core::multiply_rows<T, Right, kUsed>(pixels, stage, from_b, d, sums);
      };
      if (left > kCoreDepth - 16) {
#pragma unroll
        for (int d = 0; d < kCoreDepth; d += 16) multiply(d);
      } else {
#pragma unroll 1
        for (int d = 0; d < left; d += 16) multiply(d);
      }
    }
    if (!mine) continue;
    core::store_sums(sums, memory + Memory::kSums, plan, plan.tile(computed_here(number)), store);
  }
  simt::async_wait<0>();
}

}  // namespace plume::PLUME_KERNELS
