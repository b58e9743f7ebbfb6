// Filter gradients of first layers, of rows of x in shared memory (conv2d_stem_rows.h).
//
// rows: (filter row, word of x under it), two values each; of 3x3 filters 15 words, of 7x7 ones 77
// columns: up to 64 filters,  depth: output pixels, 16 neighbouring ones of a row at a time
//
// A block keeps its sums for all of its bands (StemShare) and leaves a slice of dw; the slices are added in
// order, f32 ones with other layers' (partial_sums.h). Of 7x7 filters five warps have 16 words each; of 3x3
// ones eight have the same words, and every eighth 16 pixels. A lane's part of a fragment of A is a word for
// each of four pixels, regrouped: the first values of two pixels are a register, the second ones another.
// Words are taken by eights, the first eight of each row before the others, so that most are neighbours. The
// gradient of y lies beside the rows of x, a pitch of an odd number of 16 bytes, and is transposed by
// ldmatrix. How it gets there is an object's business, of a band of rows of y:
//   static constexpr bool kMade;     // is it made there of what was copied?
//   void begin(int first_filter);    // once, by all threads
//   void copy(const Band&) const;    // starts the thread's copies
//   void arrived(const Band&) const; // which are in place
#pragma once
#include "kernels/common/mma.h"
#include "kernels/common/row_tiling.h"
#include "kernels/conv2d_patches.h"
#include "kernels/conv2d_stem_rows.h"

namespace plume::PLUME_KERNELS {

template <int kSide, int kTiles>
struct StemGradient {
  static constexpr int kWords = kSide * StemDepth<kSide>::kWords;  // under all rows of a filter
  static constexpr int kParts = (kWords + 15) / 16;                // 16 words to a warp
  static constexpr int kSplits = kParts == 1 ? 8 : 1;              // of the pixels
  static constexpr int kThreads = kParts * kSplits * 32;
  static constexpr int kChunks = kTiles == 2 ? 3 : kTiles + 1;  // from pixel to pixel of dy
  static constexpr int kPixelBytes = 16 * kChunks;
  // On a multiprocessor. Where dy is made, its chunk takes as many registers as the sums.
  static constexpr int blocks(bool made) { return made || (kSide == 3 && kTiles == 8) ? 2 : 3; }
};

// Rows of y whose gradient lies in shared memory, kPixelBytes from pixel to pixel, a whole number of 16
// pixels to a row; chunks of eight filters.
template <int kThreads, int kPixelBytes>
struct StemBand {
  char* memory;
  const StemShare& share;
  const StemWalk& walk;
  const FastDivide &by_tiles, &by_chunks;  // 16 pixels of a row; chunks of a pixel
  int first_filter;

  // f(row, column, chunk) for the thread's share of the chunks, kStep neighbouring columns at a time.
  template <int kStep, class F>
  __device__ __forceinline__ void for_each(F&& f) const {
    const int tiles = int(by_tiles.divisor), chunks = int(by_chunks.divisor);
    for (int i = int(threadIdx.x); i < share.rows * tiles * (16 / kStep) * chunks; i += kThreads) {
      const int place = by_chunks(i), row = by_tiles(place / (16 / kStep));
      f(row, (place - row * tiles * (16 / kStep)) * kStep, i - place * chunks);
    }
  }
  __device__ __forceinline__ char* place(int row, int column, int chunk) const {
    return memory + ((row * int(by_tiles.divisor) * 16 + column) * kPixelBytes + chunk * 16);
  }
  __device__ __forceinline__ int filter(int chunk) const { return first_filter + chunk * kChunk; }
  // Is there such a pixel, and such filters?
  __device__ __forceinline__ bool inside(int column, int chunk) const {
    return column < walk.columns && filter(chunk) < walk.filters;
  }
  // In an image of y's shape.
  __device__ __forceinline__ int offset(int row, int column, int chunk) const {
    return ((share.image * walk.rows + share.row + row) * walk.columns + column) * walk.filters +
           filter(chunk);
  }
  // Starts the copy of a chunk of such an image, or zeros.
  template <class T>
  __device__ __forceinline__ void copy(const T* y, int row, int column, int chunk) const {
    copy_chunk<true, false>(place(row, column, chunk), y + offset(row, column, chunk),
                            inside(column, chunk) ? kChunk : 0, true);
  }
};

// Of those words the n-th.
template <int kSide>
struct StemWord {
  int row, word;

  __device__ __forceinline__ explicit StemWord(int n) {
    constexpr int kRow = StemDepth<kSide>::kWords, kEights = kRow / 8 * 8, kOthers = kRow - kEights;
    const int others = n - kSide * kEights;
    row = others < 0 ? n / 8 : others / kOthers;
    word = others < 0 ? n % 8 : kEights + others - row * kOthers;
  }
};

// The values of two words of the pixels, the first ones and the second ones, of those that are there.
__device__ __forceinline__ void regroup(uint32_t a, uint32_t b, uint32_t there, uint32_t& first,
                                        uint32_t& second) {
  first = ((a & 0xffffu) | b << 16) & there;
  second = (a >> 16 | (b & 0xffff0000u)) & there;
}

// The gradient of y comes from `gradients`.
template <class T, int kSide, int kTiles, class Gradients>
__device__ __forceinline__ void stem_gradient(const T* x, Gradients gradients, const StemWalk& walk,
                                              const StemBands& bands, const FastDivide& by_tiles,
                                              const FastDivide& by_chunks, float* partial, int64_t size) {
  using Shape = StemGradient<kSide, kTiles>;
  constexpr int kTaps = StemDepth<kSide>::kTaps, kPixelBytes = Shape::kPixelBytes;
  char* const memory = simt::dyn_smem<char>();
  StemShare share(bands, walk.groups);
  const int tiles = int(by_tiles.divisor), first_filter = share.group * kTiles * 8;
  char* const rows = memory + bands.most * 16 * tiles * kPixelBytes;
  const StemBand<Shape::kThreads, kPixelBytes> band{memory, share, walk, by_tiles, by_chunks, first_filter};
  gradients.begin(first_filter);
  const auto fetch = [&] {
    share.fetch<T, Shape::kThreads>(x, walk, rows);
    gradients.copy(band);
    simt::async_commit();
    simt::async_wait<0>();
    gradients.arrived(band);
    __syncthreads();
  };

  const int thread = int(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const int part = warp % Shape::kParts, split = warp / Shape::kParts;
  // The lane's two words, and its first pixel.
  int number[2], offset[2];
#pragma unroll
  for (int f = 0; f < 2; ++f) {
    number[f] = part * 16 + f * 8 + lane / 4;
    const StemWord<kSide> at(min(number[f], Shape::kWords - 1));
    offset[f] = at.row * walk.pitch + at.word;
  }
  const uint32_t* const words = reinterpret_cast<const uint32_t*>(rows) + walk.begin + lane % 4 * 6;
  const char* const of_lane = memory + (lane / 8 % 2 * 8 + lane % 8) * kPixelBytes + lane / 16 * 16;
  float sums[2][kTiles][4] = {};

  fetch();
  while (true) {
    for (int i = split; i < share.rows * tiles; i += Shape::kSplits) {
      const int row = by_tiles(i), column = (i - row * tiles) * 16;
      const int left = walk.columns - column - lane % 4 * 2;  // pixels from the lane's first one on
      const auto there = [&](int n) { return n > 1 ? 0xffffffffu : n > 0 ? 0xffffu : 0; };
      const uint32_t* const from = words + (2 * row * walk.pitch + 3 * column);
      const char* const stage = of_lane + i * 16 * kPixelBytes;
      uint32_t a[2][4];
#pragma unroll
      for (int f = 0; f < 2; ++f) {
        const uint32_t* const at = from + offset[f];
        regroup(at[0], at[3], there(left), a[f][0], a[f][1]);
        regroup(at[24], at[27], there(left - 8), a[f][2], a[f][3]);
      }
#pragma unroll
      for (int n = 0; n < kTiles; n += 2) {
        uint32_t b[4];
        ldmatrix_x4_trans(b, stage + n * 16);
#pragma unroll
        for (int f = 0; f < 2; ++f)
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            const uint32_t fragment[2] = {b[2 * half], b[2 * half + 1]};
            mma_m16n8k16(T{}, sums[f][n + half], a[f], fragment);
          }
      }
    }
    if (!share.go_on()) break;
    __syncthreads();  // nobody reads the band any more
    fetch();
  }

  // The splits' sums one after the other.
  float* const buffer = reinterpret_cast<float*>(memory) + lane;
  float(&all)[8 * kTiles] = reinterpret_cast<float(&)[8 * kTiles]>(sums);
#pragma unroll 1
  for (int s = 0; s + 1 < Shape::kSplits; ++s) {
    __syncthreads();
    if (split == s) {
#pragma unroll
      for (int i = 0; i < 8 * kTiles; ++i) buffer[32 * i] = all[i];
    }
    __syncthreads();
    if (split != s + 1) continue;
#pragma unroll
    for (int i = 0; i < 8 * kTiles; ++i) all[i] += buffer[32 * i];
  }
  if (split != Shape::kSplits - 1) return;
  float* const slice = partial + (int(blockIdx.x) / walk.groups) * size;
#pragma unroll
  for (int f = 0; f < 2; ++f) {
    const StemWord<kSide> at(number[f]);
#pragma unroll
    for (int i = 0; i < 4 * kTiles; ++i) {
      const int value = 2 * at.word - walk.lead + i % 4 / 2,
                filter = first_filter + i / 4 * 8 + lane % 4 * 2 + i % 2;
      if (number[f] < Shape::kWords && unsigned(value) < unsigned(kTaps) && filter < walk.filters)
        slice[(filter * kSide + at.row) * kTaps + value] = sums[f][i / 4][i % 4];
    }
  }
}

// The plan of a launch, where the device has room for it; `made` as in Gradients.
template <int kSide, int kTiles>
struct StemGradientPlan {
  using Shape = StemGradient<kSide, kTiles>;
  StemWalk walk;
  StemBands bands;
  FastDivide by_tiles, by_chunks;
  int bytes = 0;  // of shared memory
  bool room;

  // `shared`: bytes that Gradients has besides.
  StemGradientPlan(const Tensor& x, const ConvSizes& s, bool made, int shared = 0)
      : walk(s, x.raw(), 0, int(ceil_div(s.out_width, 16)) * 16 - 1, kTiles * 8),
        bands{s.images, s.out_height, 2, -s.padding, s.filter_height},
        by_tiles(int(ceil_div(s.out_width, 16))),
        by_chunks(std::min(s.filters / kChunk, kTiles)) {
    // The splits' sums take the place of a band.
    const int row = int(by_tiles.divisor) * 16 * Shape::kPixelBytes, least = kTiles * 1024;
    const int most = stem_bytes(Shape::blocks(made)) - shared - bands.rows_of_x(0) * walk.row_bytes();
    room = bands.cut(most / (row + 2 * walk.row_bytes()), Shape::blocks(made), walk.groups);
    bytes = std::max(bands.most * row + bands.rows_of_x(bands.most) * walk.row_bytes(), least);
  }
  int blocks() const { return bands.parts * walk.groups; }
};

// `launch`es the slices of a plan, and puts them off to be added, where they are not dw itself.
template <class T, class Plan, class Launch>
void in_slices_of_stem(Context& context, const Plan& plan, Tensor& dw, const Launch& launch) {
  const bool whole = plan.bands.parts == 1 && dw.dtype() == DType::f32;
  const plume::Shape parts{plan.bands.parts, dw.size()};
  Tensor partial = whole ? dw : Tensor::empty(parts, DType::f32, dw.device(), "workspace");
  launch(partial.data<float>());
  if (!whole) finish_gradient<T>(context, partial, plan.bands.parts, dw);
}

}  // namespace plume::PLUME_KERNELS
