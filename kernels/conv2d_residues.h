// Operands of an input gradient at stride 2 as one product. The pixels of dx at each of the four residues
// (h, w) mod 2 are reached by taps of their own, every second one of the filter's rows and columns: of 3x3
// taps by 1, 2, 2 and 4. What these taps read of dy are neighbours of one pixel. So rows are pixels (n, i, j)
// of a grid of half the size, of which a residue has (n, 2 i + h, 2 j + w), depth is (tap, filter k) of one
// residue, and a tile's `slice` says of which: the four tiles of the same pixels follow each other and find
// their dy in the L2.
#pragma once
#include "kernels/common/finish.h"
#include "kernels/common/matrix_tiles.h"
#include "kernels/common/row_tiling.h"
#include "kernels/conv2d_patches.h"

namespace plume::PLUME_KERNELS {

// Along one side, for both residues: taps first, first + 2, ..., at most two of them, of which tap
// first + 2 r reads dy's row i + begin - r for row 2 i + residue of dx.
struct ResidueTaps {
  static constexpr int kMostSide = 4;  // of a filter
  int first[2], count[2], begin[2];

  ResidueTaps(int side, int padding) {
    for (int residue = 0; residue < 2; ++residue) {
      first[residue] = (residue + padding) % 2;
      count[residue] = (side - first[residue] + 1) / 2;
      begin[residue] = (residue + padding - first[residue]) / 2;
    }
  }
};

// Of ResidueTaps those of one residue: registers have no index.
struct TapsOfResidue {
  int first, count, begin;

  __device__ TapsOfResidue(const ResidueTaps& all, int residue)
      : first(residue ? all.first[1] : all.first[0]),
        count(residue ? all.count[1] : all.count[0]),
        begin(residue ? all.begin[1] : all.begin[0]) {}
  // A bit for each tap over row i whose row of dy is one of `rows`.
  __device__ __forceinline__ unsigned inside(int i, int rows) const {
    const unsigned bits = unsigned(unsigned(i + begin) < unsigned(rows)) |
                          unsigned(unsigned(i + begin - 1) < unsigned(rows)) << 1;
    return bits & ((1u << count) - 1);
  }
};

// Tiles of all residues. Those of few taps have fewer steps, at least one.
struct ResiduePlan : CorePlan {
  static constexpr int kResidues = 4;
  ConvSizes s;
  ResidueTaps down, right;
  int rows_of_image, columns_of_image;  // pixels (n, i, j)
  FastDivide by_columns_of_image, by_rows_of_image, by_filters;

  ResiduePlan(const ConvSizes& sizes, int columns_of_tile)
      : CorePlan(int64_t(sizes.images) * half(sizes.height) * half(sizes.width), sizes.channels,
                 int64_t(half(sizes.filter_height)) * half(sizes.filter_width) * sizes.filters,
                 columns_of_tile, 1),
        s(sizes),
        down(s.filter_height, s.padding),
        right(s.filter_width, s.padding),
        rows_of_image(half(s.height)),
        columns_of_image(half(s.width)),
        by_columns_of_image(columns_of_image),
        by_rows_of_image(rows_of_image),
        by_filters(s.filters) {
    slices = kResidues;
  }
  static int half(int side) { return (side + 1) / 2; }
  static bool fits(const ConvSizes& s) {
    return s.stride == 2 && s.dilation == 1 && s.filter_height <= ResidueTaps::kMostSide &&
           s.filter_width <= ResidueTaps::kMostSide && s.channels % kChunk == 0 && s.filters % kChunk == 0;
  }

  // Steps of a block's tiles are even where its tiles are of all residues and columns.
  int blocks() const {
    int count = std::min(tiles(), places);
    while (count < tiles() && count > 1 && std::gcd(count, kResidues * column_tiles) != 1) --count;
    return count;
  }
  __device__ __forceinline__ Tile tile(int number) const {
    const int rest = by_column_tiles(number);
    return {rest % kResidues, rest / kResidues, number - rest * column_tiles};
  }
  __device__ __forceinline__ int first_layer(const Tile& tile) const { return tile.slice * steps * step; }
  __device__ __forceinline__ int residue(int first_layer) const {
    const int longest = steps * step;
    return (first_layer >= longest) + (first_layer >= 2 * longest) + (first_layer >= 3 * longest);
  }
  __device__ __forceinline__ TapsOfResidue taps_down(int residue) const { return {down, residue / 2}; }
  __device__ __forceinline__ TapsOfResidue taps_right(int residue) const { return {right, residue % 2}; }
  __device__ __forceinline__ int layers_of(const Tile& tile) const {
    return taps_down(tile.slice).count * taps_right(tile.slice).count * s.filters;
  }
  __device__ __forceinline__ int steps_of(const Tile& tile) const {
    return max((layers_of(tile) + kCoreDepth - 1) / kCoreDepth, 1);
  }
  struct Pixel {
    int n, i, j;
  };
  __device__ __forceinline__ Pixel pixel(int row) const {
    const int line = by_columns_of_image(row), n = by_rows_of_image(line);
    return {n, line - n * rows_of_image, row - line * columns_of_image};
  }
};

// Rows: pixels; depth: (tap, filter k). A thread stays with its pixels, as in PatchRows.
template <class T>
struct ResidueRows {
  static constexpr bool kDepthMajor = true;
  using Copies = CopyPlan<kCoreRows, true>;
  const T* dy;
  const ResiduePlan& plan;
  int offset[Copies::kPasses];       // of the pixel of dy under the first tap
  unsigned inside[Copies::kPasses];  // a bit for each row and, from 16 on, each column of taps
  int columns_of_taps = 1, r = 0, t = 0, k = 0;

  __device__ ResidueRows(const T* dy_, const ResiduePlan& plan_) : dy(dy_), plan(plan_) {}

  __device__ void begin(int row, int first) {
    const ConvSizes& s = plan.s;
    const int residue = plan.residue(first);
    const TapsOfResidue down = plan.taps_down(residue), right = plan.taps_right(residue);
    columns_of_taps = right.count;
    r = t = 0;
    k = Copies::chunk() * kChunk;
    find_tap();
#pragma unroll
    for (int pass = 0; pass < Copies::kPasses; ++pass) {
      const int number = row + Copies::row(pass);
      const auto at = plan.pixel(number);
      offset[pass] =
          ((at.n * s.out_height + at.i + down.begin) * s.out_width + at.j + right.begin) * s.filters;
      inside[pass] =
          number < plan.rows ? down.inside(at.i, s.out_height) | right.inside(at.j, s.out_width) << 16 : 0;
    }
  }
  __device__ void fetch(char* tile) {
    char* const to = Copies::place(tile);
    const T* const from = dy + (k - (r * plan.s.out_width + t) * plan.s.filters);
#pragma unroll
    for (int pass = 0; pass < Copies::kPasses; ++pass) {
      const bool in = inside[pass] >> r & inside[pass] >> (16 + t) & 1;  // no bit is set past the last tap
      copy_chunk<true, true>(to + pass * Copies::kPassBytes, from + offset[pass], in ? kChunk : 0, true);
    }
    k += kCoreDepth;
    find_tap();
  }

 private:
  __device__ __forceinline__ void find_tap() {
    while (k >= plan.s.filters) {
      k -= plan.s.filters;
      if (++t < columns_of_taps) continue;
      t = 0;
      ++r;
    }
  }
};

// Rows: channels c; depth: (tap, filter k).
template <class T, int kRows>
struct ResidueFilters {
  static constexpr bool kDepthMajor = false;
  using Copies = CopyPlan<kRows, false>;
  const T* w;
  const ResiduePlan& plan;
  int place = 0, taps = 0, columns_of_taps = 1, depth = 0;  // place: of the first tap
  bool here = false;

  __device__ ResidueFilters(const T* w_, const ResiduePlan& plan_) : w(w_), plan(plan_) {}

  __device__ void begin(int row, int first) {
    const ConvSizes& s = plan.s;
    const int residue = plan.residue(first), channel = row + Copies::chunk() * kChunk;
    const TapsOfResidue down = plan.taps_down(residue), right = plan.taps_right(residue);
    here = channel < s.channels;
    columns_of_taps = right.count;
    taps = down.count * right.count;
    place = (down.first * s.filter_width + right.first) * s.channels + channel;
    depth = Copies::row(0);
  }
  __device__ void fetch(char* tile) {
    const ConvSizes& s = plan.s;
    char* const to = Copies::place(tile);
#pragma unroll
    for (int pass = 0; pass < Copies::kPasses; ++pass) {
      const int layer = depth + pass * Copies::kStep, tap = plan.by_filters(layer);
      const int r = columns_of_taps == 2 ? tap / 2 : tap, t = tap - r * columns_of_taps;
      const int from = (layer - tap * s.filters) * s.patch() + 2 * (r * s.filter_width + t) * s.channels;
      copy_chunk<true, false>(to + pass * Copies::kPassBytes, w + (place + from),
                              here && tap < taps ? kChunk : 0, true);
    }
    depth += kCoreDepth;
  }
};

template <class T>
struct ResidueStore {
  T* dx;
  const ResiduePlan& plan;

  struct Columns {
    T* dx;  // of the column and the residue's first pixel
    const ResiduePlan& plan;
    int residue;

    __device__ static Nothing fetch(int) { return {}; }
    __device__ __forceinline__ void operator()(int row, const float (&sums)[kChunk], Nothing) const {
      const auto at = plan.pixel(row);
      const int h = 2 * at.i + residue / 2, w = 2 * at.j + residue % 2;
      if (h >= plan.s.height || w >= plan.s.width) return;  // of an odd number of rows or columns
      Pack<T, kChunk>::narrow(sums).store(dx + plan.s.x_offset(at.n, h, w, 0));
    }
  };
  __device__ __forceinline__ Columns columns(int residue, int column) const {
    return {dx + column, plan, residue};
  }
};

}  // namespace plume::PLUME_KERNELS
