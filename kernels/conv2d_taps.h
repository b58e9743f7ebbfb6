// Gradients of 3x3 filters that leave the size of an image as it is, all taps in one block. They multiply the
// same pixels of dy with pixels of x so many further on in memory: 64 channels of these come into shared
// memory once, and so does dy of 64 filters, where the matrix core (matrix_core.h) brings dy for every 128
// rows (tap, channel), and x for every tap.
//
// A tile is 9 taps x 64 channels x 64 filters, twelve warps of 48 x 64 sums, so that each of a
// multiprocessor's four schedulers has three; nine of 64 x 64 would have no 128 registers for them. Depth are
// pixels, cut into slices, in steps of 64. The pixels of x lie in a ring, of which each step replaces 64;
// those of dy in three stages. Outside of an image a tap reads a row of zeros.
//
// Per step: 1152 mma, 336 ldmatrix, 16 KB from the L2; 1344 wavefronts of ldmatrix and 128 of copies beside
// 1858 clocks of tensor cores, at the 62 % of the peak that mma.sync reaches on an H100.
#pragma once
#include "kernels/conv2d_gradients.h"
#include "kernels/conv2d_strips.h"

namespace plume::PLUME_KERNELS {

// Rows of the product: (64 channels, tap, channel of these).
struct TapWalk {
  static constexpr int kTaps = 9, kSide = kCoreDepth, kRows = kTapRows;
  static_assert(kRows == kTaps * kSide);
  static constexpr int kRing = 512, kRowBytes = 2 * kSide;  // pixels of x, and their bytes
  static constexpr int kStage = kSide * kRowBytes;
  static constexpr int kSums = kCoreStages * kStage, kZeros = kSums + CoreShape<kSide, kRows>::kBufferBytes,
                       kPixels = kZeros + kRowBytes, kBytes = kPixels + kRing * kRowBytes;
  StripWalk strips;

  explicit TapWalk(const PatchWalk& walk) : strips(walk) {}
  int64_t rows() const { return int64_t(strips.channel_blocks()) * kRows; }

  // The ring holds what a step reads, and what comes for the two after it. Channels and filters are taken 64
  // at a time, of which half should exist.
  static bool fits(const PatchWalk& walk, int64_t filters) {
    const auto padded = [](int64_t n) { return ceil_div(n, kSide) * kSide; };
    return walk.taps() == kTaps && walk.scale == 1 && walk.rows == walk.height &&
           walk.columns == walk.width && StripWalk(walk).span + kCoreStages * kSide <= kRing &&
           2 * walk.channels * filters >= padded(walk.channels) * padded(filters);
  }
};

__device__ __forceinline__ int place_in_filter(const TapWalk& walk, int row) {
  const int block = row / TapWalk::kRows, rest = row - block * TapWalk::kRows, tap = rest / TapWalk::kSide;
  const int channel = block * TapWalk::kSide + rest % TapWalk::kSide, channels = walk.strips.walk.channels;
  return channel < channels ? tap * channels + channel : -1;
}

// The block's tiles, each to `store` (matrix_sums.h).
template <class T, class Store>
__device__ __forceinline__ void tap_core(const T* x, const T* dy, const TapWalk& taps, const CorePlan& plan,
                                         const Store& store) {
  constexpr int kSide = TapWalk::kSide, kRowBytes = TapWalk::kRowBytes, kChunks = kSide / kChunk;
  constexpr int kCopying = 8 * 32, kPass = kCopying / kChunks;  // threads that copy, and rows at once
  using Shape = CoreShape<kSide, TapWalk::kRows>;
  using Sums = CoreSums<kSide, TapWalk::kRows>;
  using Right = core::Fragments<kSide, false, false>;
  const StripWalk& strips = taps.strips;
  const PatchWalk& walk = strips.walk;
  char* const memory = simt::dyn_smem<char>();
  char* const ring = memory + TapWalk::kPixels;
  if (threadIdx.x < kChunks)
    Pack<T, kChunk>::filled(T(0.0f)).store(reinterpret_cast<T*>(memory + TapWalk::kZeros) +
                                           threadIdx.x * kChunk);
  // Of the warp's 16 rows each, (tap, 16 channels): how far from a pixel the tap reads, rows and columns in
  // halves of an int, and the lane's 16 bytes in the ring, of the pixels and channels of core::Fragments.
  const int lane_pixel = core::lane() / 16 * 8 + core::lane() % 8;
  int from_pixel[Sums::kRowTiles], place[Sums::kRowTiles];
#pragma unroll
  for (int m = 0; m < Sums::kRowTiles; ++m) {
    const int row = Shape::warp_row() + 16 * m, tap = row / kSide, r = walk.by_taps_right(tap),
              t = tap - r * walk.taps_right;
    from_pixel[m] = (r * walk.down & 0xffff) | t * walk.right << 16;
    place[m] = swizzled<kChunks>(lane_pixel + strips.shift(r, t) - strips.first,
                                 row % kSide / kChunk + core::lane() / 8 % 2);
  }

  for (int number = int(blockIdx.x); number < plan.tiles(); number += int(gridDim.x)) {
    const CorePlan::Tile tile = plan.tile(number);
    const int first = plan.first_layer(tile), steps = plan.steps_of(tile);
    MatrixLayers<T, kSide, true, kChunk, kCopying> gradients(dy, plan.columns, plan.depth, true);
    gradients.begin(tile.column * kSide, first);
    // Row 0 of the ring is the first pixel that any tap of the first one reads.
    const auto fetch_ring = [&](int from, int rows) {
      const int me = computed_here(int(threadIdx.x)), chunk = me % kChunks;
      const int channel = tile.row * kSide + chunk * kChunk;
#pragma unroll 1
      for (int row = from + me / kChunks; row < from + rows; row += kPass) {
        const int pixel = first + strips.first + row, in_ring = row & (TapWalk::kRing - 1);
        if (unsigned(pixel) < unsigned(plan.depth))
          copy_unit<kChunk, false>(ring + swizzled<kChunks>(in_ring, chunk),
                                   x + (pixel * walk.channels + channel), channel < walk.channels);
      }
    };
    const auto fetch = [&](int step, int stage) {
      if (step < steps && threadIdx.x < kCopying) {
        fetch_ring(strips.span + step * kSide, kSide);
        gradients.fetch(memory + stage * TapWalk::kStage);
      }
      simt::async_commit();
    };
    __syncthreads();  // nobody reads the tile before any more
    if (threadIdx.x < kCopying) fetch_ring(0, strips.span);
#pragma unroll 1
    for (int i = 0; i < kCoreStages - 1; ++i) fetch(i, i);

    const int from_b = Right::begin(0);
    int read = 0;
    Sums sums;
    sums.clear();
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
      // Does the tap lie in the image? Two pixels a lane; it keeps a bit for each of those that it reads, of
      // the second 16 of 32 pixels in the upper half.
      unsigned inside = 0;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int pixel = first + step * kSide + half * 32 + core::lane();
        const auto at = walk.origin(pixel);
#pragma unroll
        for (int m = 0; m < Sums::kRowTiles; ++m) {
          const int by = computed_here(from_pixel[m]);
          const bool in = pixel < plan.depth && walk.inside(at.h + int16_t(by), at.w + (by >> 16));
          inside |= (__ballot_sync(~0u, in) >> lane_pixel & 0x10001u) << (2 * m + half);
        }
      }
      simt::async_wait<kCoreStages - 2>();
      __syncthreads();  // pixels and stage are in place for all, and nobody reads the ones before any more
      fetch(step + kCoreStages - 1, read == 0 ? kCoreStages - 1 : read - 1);
      const char* const stage = memory + read * TapWalk::kStage;
      read = read + 1 == kCoreStages ? 0 : read + 1;
#pragma unroll 2
      for (int d = 0; d < kSide; d += 16) {
        uint32_t left[Sums::kRowTiles][4];
#pragma unroll
        for (int m = 0; m < Sums::kRowTiles; ++m) {
          const int here = computed_here(place[m]),
                    from = (here + (step * kSide + d) * kRowBytes) & (TapWalk::kRing * kRowBytes - 1);
          const bool in = inside >> (2 * m + d / 32 + d % 32) & 1;
          ldmatrix_x4_trans(
              left[m], memory + (in ? TapWalk::kPixels + from : TapWalk::kZeros + (here & (kRowBytes - 1))));
        }
        core::multiply_rows<T, Right>(left, stage, from_b, d, sums);
      }
    }
    core::store_sums(sums, memory + TapWalk::kSums, plan, plan.tile(computed_here(number)), store);
  }
  simt::async_wait<0>();
}

}  // namespace plume::PLUME_KERNELS
