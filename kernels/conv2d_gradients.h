// The gradients of a convolution as products on the matrix core: their operands beside those of
// conv2d_patches.h, and where their sums go.
#pragma once
#include <numeric>
#include <type_traits>

#include "kernels/common/finish.h"
#include "kernels/common/matrix_tiles.h"
#include "kernels/common/row_tiling.h"
#include "kernels/conv2d_patches.h"

namespace plume::PLUME_KERNELS {

// The pixels of dx at one residue, and the taps that reach them: r = first_r + i * step, i < taps_down, reads
// dy's row i0 - i * (dilation / g), where h = residue + i0 * stride and g = gcd(stride, dilation).
struct InputClass {
  PatchWalk walk;
  int first_r, first_t, step;  // taps of w
  int residue_h, residue_w;

  InputClass(const ConvSizes& s, int number)
      : walk(s.images, s.out_height, s.out_width, s.filters, count(s.height, number / s.stride, s.stride),
             count(s.width, number % s.stride, s.stride)),
        residue_h(number / s.stride),
        residue_w(number % s.stride) {
    const int g = std::gcd(s.stride, s.dilation);
    step = s.stride / g;
    first_r = first_tap(s, residue_h);
    first_t = first_tap(s, residue_w);
    walk.set_taps(count(s.filter_height, first_r, step), count(s.filter_width, first_t, step));
    if (walk.taps() == 0) walk.set_taps(0, 0);
    walk.down = walk.right = -s.dilation / g;
    walk.top = (residue_h + s.padding - first_r * s.dilation) / s.stride;
    walk.left = (residue_w + s.padding - first_t * s.dilation) / s.stride;
  }

  // Of first, first + step, ... below end.
  static int count(int end, int first, int step) { return std::max(0, (end - first + step - 1) / step); }
  // Within the first `step` taps, or none: then a number past them all.
  int first_tap(const ConvSizes& s, int residue) const {
    for (int r = 0; r < step; ++r)
      if ((residue + s.padding - r * s.dilation) % s.stride == 0) return r;
    return std::max(s.filter_height, s.filter_width);
  }
};

// Rows: channels c; depth: (tap, filter k) of an input class.
template <class T, int kRows, bool kVector>
struct FilterLayers {
  static constexpr bool kDepthMajor = false;
  using Plan = CopyPlan<kRows, false>;
  const T* w;
  const InputClass& taps;
  int filter_width, channels, patch;  // of w
  int rows_left = 0, channel = 0, depth = 0;

  __device__ FilterLayers(const T* w_, const InputClass& taps_, const ConvSizes& s)
      : w(w_), taps(taps_), filter_width(s.filter_width), channels(s.channels), patch(s.patch()) {}

  __device__ void begin(int row, int first) {
    channel = row + Plan::chunk() * kChunk;
    rows_left = channels - channel;
    depth = first + Plan::row(0);
  }
  __device__ void fetch(char* tile) {
    char* const to = Plan::place(tile);
#pragma unroll
    for (int pass = 0; pass < Plan::kPasses; ++pass) {
      const auto tap = taps.walk.tap(depth + pass * Plan::kStep);
      const int r = taps.first_r + tap.down * taps.step, t = taps.first_t + tap.right * taps.step;
      const bool in = tap.number < taps.walk.taps() && tap.channel < taps.walk.channels;
      const int from = tap.channel * patch + (r * filter_width + t) * channels + channel;
      copy_chunk<kVector, false>(to + pass * Plan::kPassBytes, w + from, in ? rows_left : 0,
                                 channels % 2 == 0);
    }
    depth += kCoreDepth;
  }
};

template <class T>
struct InputGradientStore {
  T* dx;
  ConvSizes s;
  InputClass at;

  struct Columns {
    const InputGradientStore& to;
    int column;

    __device__ static Nothing fetch(int) { return {}; }
    // Of the pixel that a row of the product is, in dx.
    __device__ __forceinline__ T* begin(int row) const {
      const ConvSizes& s = to.s;
      const InputClass& at = to.at;
      if (s.stride == 1) return to.dx + int64_t(row) * s.channels;
      const int line = at.walk.by_columns(row), n = at.walk.by_rows(line);
      const int h = at.residue_h + (line - n * at.walk.rows) * s.stride;
      const int w = at.residue_w + (row - line * at.walk.columns) * s.stride;
      return to.dx + s.x_offset(n, h, w, 0);
    }
    __device__ __forceinline__ void operator()(int row, const float (&sums)[kChunk], Nothing) const {
      store_chunk(begin(row) + column, sums, to.s.channels - column, to.s.channels);
    }
    // See matrix_sums.h.
    using Value = T;
    __device__ bool in_pairs() const { return to.s.channels % 4 == 2; }
    __device__ static auto packed(const float (&sums)[kChunk], Nothing) {
      return Pack<T, kChunk>::narrow(sums).word();
    }
  };
  __device__ __forceinline__ Columns columns(int column) const { return {*this, column}; }
};

// Which value of a filter [taps, channels] a row of its gradient is; -1: none.
__device__ __forceinline__ int place_in_filter(const PatchWalk& walk, int row) {
  const auto tap = walk.tap(row);
  return tap.channel < walk.channels ? tap.number * walk.channels + tap.channel : -1;
}

// A filter's sums on their way to slices of [filters, taps, channels], or to dw where there is one slice.
template <class Walk>
struct FilterGradientStore {
  static constexpr bool kAlongRows = true;
  Walk walk;
  float* to;
  int filters, patch;
  int64_t size;

  struct Columns {
    const FilterGradientStore& all;
    int slice, column;

    __device__ static Nothing fetch(int) { return {}; }
    __device__ __forceinline__ void operator()(int row, const float (&sums)[kChunk], Nothing) const {
      const int place = place_in_filter(all.walk, row);
      if (place < 0) return;
      float* const from_column = all.to + slice * all.size + int64_t(column) * all.patch + place;
#pragma unroll
      for (int i = 0; i < kChunk; ++i)
        if (column + i < all.filters) from_column[int64_t(i) * all.patch] = sums[i];
    }
  };
  __device__ __forceinline__ Columns columns(int slice, int column) const { return {*this, slice, column}; }
};

// What slices of a filter's gradient, of `rows` of the filter and all pixels, move beside the operands: each
// is written and read once more. As a share of these.
inline double share_of_slices(int64_t slices, int64_t rows, int64_t filters, int64_t pixels) {
  return 2.0 * sizeof(float) * double(slices * rows * filters) / (2.0 * double(pixels * (rows + filters)));
}

// How it is cut up. Where slices for all blocks that fit would move more than a quarter of what the product
// reads, one block on a multiprocessor has to do: with its copies of two steps on their way it nearly does.
inline CorePlan filter_gradient_plan(int64_t rows, int64_t filters, int64_t pixels, TileSize tile) {
  constexpr double kMostShare = 0.25;
  int64_t most = int64_t{1} << 16;
  if (core_blocks(tile.columns, kCoreDepth, tile.rows) > 1 && pixels > 0) {
    const int64_t tiles = ceil_div(rows, tile.rows) * ceil_div(filters, tile.columns);
    most = std::max({int64_t(kMostShare / share_of_slices(1, rows, filters, pixels)),
                     simt::multiprocessors() / tiles, int64_t{1}});
  }
  return {rows, filters, pixels, tile.columns, most, kCoreDepth, tile.rows};
}

// The tile of those in chunks of 16 bytes. Large ones leave larger slices, but not
// more of them than the operands.
inline TileSize filter_gradient_tile(int64_t rows, int64_t filters, int64_t pixels) {
  constexpr double kMostShare = 1;
  const TileSize core{kCoreRows, core_columns(filters)};
  const TileSize best =
      choose_tile(rows, filters, pixels, core.columns, int64_t{1} << 16, {kWide192, kLarge128});
  const int slices = filter_gradient_plan(rows, filters, pixels, best).slices;
  return share_of_slices(slices, rows, filters, pixels) > kMostShare ? core : best;
}

// `launch`es the slices of a plan, and puts them off to be added, where they are not dw itself.
template <class T, class Launch>
void in_slices_of_gradient(Context& context, const CorePlan& plan, Tensor& dw, const Launch& launch) {
  const bool whole = plan.slices == 1 && dw.dtype() == DType::f32;
  Tensor partial = whole ? dw : Tensor::empty({plan.slices, dw.size()}, DType::f32, dw.device(), "workspace");
  launch(partial.data<float>());
  if (!whole) finish_gradient<T>(context, partial, plan.slices, dw);
}

}  // namespace plume::PLUME_KERNELS
