// First layers on the matrix core, of rows of x in shared memory (conv2d_stem_rows.h). Fragments of A (mma.h)
// are read from there a word at a time: eight pixels, three words apart, times four neighbouring words are no
// two words of a bank.
//
// Depth counts fours of words, in this order: 1 (2) of each row of the filter; then one of each row's other
// words, of four rows at once, that with a value too many first. 7x7 filters take 20 of them, ten steps of 16
// values, where rows one behind the other would take as many.
//
// A warp keeps its fragments of the filters in registers: 16 x 32 sums of a 7x7 take 40 loads and 40 mma. Its
// sums are finished there, rounded, and reach memory through shared memory of its own.
#pragma once
#include "kernels/common/finish.h"
#include "kernels/common/mma.h"
#include "kernels/conv2d_stem_rows.h"

namespace plume::PLUME_KERNELS {

template <int kSide>
struct StemFours : StemDepth<kSide> {
  using StemDepth<kSide>::kWords;
  static constexpr int kWhole = (kWords - 1) / 4;    // fours of words of a row
  static constexpr int kRest = kWords - 4 * kWhole;  // the others
  static constexpr int kSets = (kSide + 3) / 4;      // of four rows
  static constexpr int kFours = kSide * kWhole + kRest * kSets, kSteps = kFours / 2;
  static_assert(kFours % 2 == 0);
};

// Of a block, and blocks on a multiprocessor: registers for 12 warps of 7x7 filters (168 each); of 3x3 ones
// for 24, or 16 of 32 filters.
constexpr int stem_threads(int side) { return side == 7 ? 128 : 256; }
constexpr int stem_blocks(int side, int tiles) { return side == 3 && tiles == 4 ? 2 : 3; }

// Filters of a block are kTiles times 8. In 4-byte words, but for kRows.
template <int kSide, int kTiles>
struct StemMemory {
  static constexpr int kWarps = stem_threads(kSide) / 32, kBlocks = stem_blocks(kSide, kTiles);
  static constexpr int kPitch = kTiles == 4 ? 20 : 12;  // of a pixel's results; rows of pairs in all banks
  static constexpr int kStage = 16 * kPitch;            // of a warp
  static constexpr int kFilters = kTiles * 8 * kSide * StemDepth<kSide>::kTaps / 2;
  static constexpr int kRows = (kFilters + kWarps * kStage) * 4;  // where x's rows begin, in bytes
};

// A lane's fragments of kTiles times 8 filters, B of mma.h.
template <class T, int kSide, int kTiles>
struct StemFilters {
  using Depth = StemFours<kSide>;
  uint32_t values[Depth::kSteps][kTiles][2];

  // From the filters as they lie in memory.
  __device__ __forceinline__ void load(const T* filters, int lead) {
    const int lane = int(threadIdx.x) % 32, filter = lane / 4, word = lane % 4;
#pragma unroll
    for (int four = 0; four < Depth::kFours; ++four)
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
        const T* const from = filters + (8 * n + filter) * (kSide * Depth::kTaps);
        uint32_t& to = values[four / 2][n][four % 2];
        if (four < kSide * Depth::kWhole) {
          to =
              pair(from + (four / Depth::kWhole * Depth::kTaps + four % Depth::kWhole * 8 + 2 * word + lead));
          continue;
        }
        const int rest = (four - kSide * Depth::kWhole) / Depth::kSets;
        const int row = (four - kSide * Depth::kWhole) % Depth::kSets * 4 + word;
        const T* const row_of_filter = from + row * Depth::kTaps;
        if (row >= kSide)
          to = 0;
        else if (rest > 0)
          to = pair(row_of_filter + (8 * Depth::kWhole + 2 * (rest - 1) + lead));
        else
          to = lead ? uint32_t(row_of_filter[0].bits) << 16 : row_of_filter[Depth::kTaps - 1].bits;
      }
  }
  __device__ static __forceinline__ uint32_t pair(const T* from) {
    return from[0].bits | uint32_t(from[1].bits) << 16;
  }
};

// Where a lane finds its words of a pixel's patch, from the first row and word of it on.
template <int kSide>
struct StemPatch {
  using Depth = StemFours<kSide>;
  int pitch, whole, odd[Depth::kSets], rest;   // rest: from an odd word to the first of the others
  uint32_t odd_bits[Depth::kSets], last_rows;  // of them that count; all, or none

  __device__ __forceinline__ explicit StemPatch(const StemWalk& walk) : pitch(walk.pitch) {
    const int word = int(threadIdx.x) % 4, odd_word = walk.lead ? 0 : Depth::kWords - 1;
    whole = walk.lead + word;
    rest = walk.lead + 4 * Depth::kWhole - odd_word;
    last_rows = 4 * (Depth::kSets - 1) + word < kSide ? 0xffffffffu : 0;
#pragma unroll
    for (int set = 0; set < Depth::kSets; ++set) {
      odd[set] = min(4 * set + word, kSide - 1) * pitch + odd_word;
      odd_bits[set] = walk.lead ? 0xffff0000u : 0xffffu;
      if (set == Depth::kSets - 1) odd_bits[set] &= last_rows;
    }
  }
  __device__ __forceinline__ uint32_t load(const uint32_t* from, int four) const {
    if (four < kSide * Depth::kWhole)
      return from[whole + four / Depth::kWhole * pitch + four % Depth::kWhole * 4];
    const int number = (four - kSide * Depth::kWhole) / Depth::kSets;
    const int set = (four - kSide * Depth::kWhole) % Depth::kSets;
    if (number == 0) return from[odd[set]] & odd_bits[set];
    const uint32_t word = from[odd[set] + rest + (number - 1)];
    return set == Depth::kSets - 1 ? word & last_rows : word;
  }
};

// 16 pixels of a row of y, kTiles times 8 filters of each, finished and rounded: a lane has pairs of
// neighbouring filters, of a tile those of pixels lane / 4 and 8 more.
template <class T, int kSide, int kTiles>
class StemProduct {
 public:
  using Depth = StemFours<kSide>;
  using Memory = StemMemory<kSide, kTiles>;
  using Chunk = Pack<T, kChunk>;
  using Pairs = uint32_t[kTiles][2];

  // `filters`: the block's first one.
  __device__ __forceinline__ StemProduct(char* memory, const StemWalk& walk, const EpilogueView<T>& finish,
                                         int first)
      : patch_(walk),
        scale_(finish.scale ? finish.scale + first : nullptr),
        filters_left_(walk.filters - first),
        activation_(finish.activation) {
    const int lane = int(threadIdx.x) % 32;
    filters_.load(reinterpret_cast<const T*>(memory), walk.lead);
    rows_ = reinterpret_cast<const uint32_t*>(memory + Memory::kRows) + walk.begin + lane / 4 * 3;
    stage_ = reinterpret_cast<uint32_t*>(memory) + Memory::kFilters + int(threadIdx.x) / 32 * Memory::kStage;
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      const int filter = first + 8 * n + lane % 4 * 2;
      const bool there = filter < walk.filters;
      shift_[n] = Pack<float, 2>::filled(0.0f);
      if (there && finish.shift) shift_[n] = Pack<float, 2>::load(finish.shift + filter);
    }
  }

  // Of the columns from `column` on, in a row of y whose patches begin at row `row` of the band.
  __device__ __forceinline__ void multiply(int row, int column, Pairs& pairs) const {
    const uint32_t* const from = rows_ + (row * patch_.pitch + 3 * column);
    float sums[kTiles][4] = {};
#pragma unroll
    for (int step = 0; step < Depth::kSteps; ++step) {
      constexpr int kHalf = 8 * 3;  // words to eight pixels on
      const uint32_t left[4] = {patch_.load(from, 2 * step), patch_.load(from + kHalf, 2 * step),
                                patch_.load(from, 2 * step + 1), patch_.load(from + kHalf, 2 * step + 1)};
#pragma unroll
      for (int n = 0; n < kTiles; ++n) mma_m16n8k16(T{}, sums[n], left, filters_.values[step][n]);
    }
    if (scale_) scale(sums);
    float values[4 * kTiles];
#pragma unroll
    for (int i = 0; i < 4 * kTiles; ++i) values[i] = sums[i / 4][i % 4] + shift_[i / 4].values[i % 2];
    activate_all(activation_, values);
#pragma unroll
    for (int i = 0; i < 2 * kTiles; ++i)
      pairs[i / 2][i % 2] = detail::narrow_pair(T{}, values[2 * i], values[2 * i + 1]);
  }

  // What lanes have of 16 pixels, so that they find chunks of eight filters there.
  __device__ __forceinline__ void stage(const Pairs& pairs) const {
    const int lane = int(threadIdx.x) % 32;
    __syncwarp();
#pragma unroll
    for (int i = 0; i < 2 * kTiles; ++i)
      stage_[(lane / 4 + i % 2 * 8) * Memory::kPitch + i / 2 * 4 + lane % 4] = pairs[i / 2][i % 2];
    __syncwarp();
  }
  __device__ __forceinline__ Chunk staged(int pixel, int chunk) const {
    return Chunk::load(reinterpret_cast<const T*>(stage_ + pixel * Memory::kPitch + chunk * 4));
  }

 private:
  // Networks in evaluation have their scale in the filters: it has no registers of its own.
  __device__ __forceinline__ void scale(float (&sums)[kTiles][4]) const {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      const int filter = 8 * n + int(threadIdx.x) % 4 * 2;
      if (filter >= filters_left_) continue;
      const auto with = Pack<float, 2>::load(scale_ + filter);
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[n][i] *= with.values[i % 2];
    }
  }

  StemPatch<kSide> patch_;
  StemFilters<T, kSide, kTiles> filters_;
  Pack<float, 2> shift_[kTiles];
  const float* scale_;
  int filters_left_;
  Activation activation_;
  const uint32_t* rows_;  // where the lane's first pixel of the band's first row begins
  uint32_t* stage_;
};

}  // namespace plume::PLUME_KERNELS
