// Convolutions as operands of the matrix core: pixels under a filter's taps, and filters. Nothing is unrolled
// in memory. Depth (or rows) count (tap, channel), channels rounded up to 8, so that a chunk of 16 bytes
// never leaves its tap; taps follow each other without a gap.
#pragma once
#include <type_traits>

#include "kernels/common/matrix_operands.h"
#include "kernels/common/matrix_tiles.h"
#include "kernels/conv2d_sizes.h"

namespace plume::PLUME_KERNELS {

inline constexpr int kMostTaps = 8;  // of a filter's rows or columns: a bit each

constexpr int padded_channels(int64_t channels) { return int((channels + kChunk - 1) / kChunk * kChunk); }

// Which pixels of an image [N, height, width, channels] tap (r, t) of pixel (n, i, j) reads:
//   row i * scale + top + r * down, column j * scale + left + t * right; zero outside.
// Forward these are x's pixels under y's. In backward_input they are dy's pixels over the pixels of x that
// lie at one residue (h, w) mod stride, and whose taps are then the same, `tap_step` apart.
struct PatchWalk {
  int images, height, width, channels;
  int rows, columns;          // pixels (n, i, j) of an image
  int taps_down, taps_right;  // none: nothing is read
  int scale, top, left, down, right;
  FastDivide by_columns, by_rows, by_channels, by_taps_right;

  PatchWalk(int images_, int height_, int width_, int channels_, int rows_, int columns_)
      : images(images_),
        height(height_),
        width(width_),
        channels(channels_),
        rows(rows_),
        columns(columns_),
        taps_down(0),
        taps_right(0),
        scale(1),
        top(0),
        left(0),
        down(1),
        right(1),
        by_columns(std::max(columns_, 1)),
        by_rows(std::max(rows_, 1)),
        by_channels(padded_channels(channels_)),
        by_taps_right(1) {}

  void set_taps(int down_, int right_) {
    taps_down = down_;
    taps_right = right_;
    by_taps_right = FastDivide(std::max(right_, 1));
  }

  PLUME_HD int64_t pixels() const { return int64_t(images) * rows * columns; }
  PLUME_HD int taps() const { return taps_down * taps_right; }
  PLUME_HD int depth() const { return taps() * ((channels + kChunk - 1) / kChunk * kChunk); }
  // Do the patches lie in memory as a matrix [pixels, channels] does?
  bool is_matrix() const {
    return taps() == 1 && scale == 1 && top == 0 && left == 0 && rows == height && columns == width;
  }

  struct Tap {
    int number, down, right, channel;
  };
  __device__ __forceinline__ Tap tap(int depth) const {
    const int number = by_channels(depth), r = by_taps_right(number);
    return {number, r, number - r * taps_right, depth - number * int(by_channels.divisor)};
  }
  struct Origin {
    int n, h, w;
  };
  __device__ __forceinline__ Origin origin(int pixel) const {
    const int row = by_columns(pixel), n = by_rows(row);
    return {n, (row - n * rows) * scale + top, (pixel - row * columns) * scale + left};
  }
  __device__ __forceinline__ bool inside(int h, int w) const {
    return unsigned(h) < unsigned(height) && unsigned(w) < unsigned(width);
  }
  // A bit for each row, and from 16 on for each column, of taps of a pixel that lies in the image.
  __device__ __forceinline__ unsigned taps_inside(int pixel) const {
    if (pixel >= int(pixels())) return 0;
    const Origin at = origin(pixel);
    unsigned rows_inside = 0, columns_inside = 0;
#pragma unroll 1
    for (int i = 0; i < taps_down; ++i)
      rows_inside |= unsigned(unsigned(at.h + i * down) < unsigned(height)) << i;
#pragma unroll 1
    for (int i = 0; i < taps_right; ++i)
      columns_inside |= unsigned(unsigned(at.w + i * right) < unsigned(width)) << i;
    return rows_inside | columns_inside << 16;
  }
  __device__ __forceinline__ int tap_offset(int r, int t) const {
    return (r * down * width + t * right) * channels;
  }
};

inline PatchWalk forward_patches(const ConvSizes& s) {
  PatchWalk walk(s.images, s.height, s.width, s.channels, s.out_height, s.out_width);
  walk.set_taps(s.filter_height, s.filter_width);
  walk.scale = s.stride;
  walk.top = walk.left = -s.padding;
  walk.down = walk.right = s.dilation;
  return walk;
}

// Rows: pixels; depth: (tap, channel). A thread stays with its pixels: where their patches begin, and a bit
// for each row and each column of taps that lies inside the image.
template <class T, bool kVector>
struct PatchRows {
  static constexpr bool kDepthMajor = true;
  using Plan = CopyPlan<kCoreRows, true>;
  const T* x;
  const PatchWalk& walk;
  int offset[Plan::kPasses];
  unsigned inside[Plan::kPasses];
  int r = 0, t = 0, c = 0;

  __device__ PatchRows(const T* x_, const PatchWalk& walk_) : x(x_), walk(walk_) {}

  __device__ void begin(int row, int first) {
    const auto tap = walk.tap(first + Plan::chunk() * kChunk);
    r = tap.down;
    t = tap.right;
    c = tap.channel;
#pragma unroll
    for (int pass = 0; pass < Plan::kPasses; ++pass) {
      const int pixel = row + Plan::row(pass);
      const auto at = walk.origin(pixel);
      offset[pass] = ((at.n * walk.height + at.h) * walk.width + at.w) * walk.channels;
      inside[pass] = walk.taps_inside(pixel);
    }
  }

  __device__ void fetch(char* tile) {
    char* const to = Plan::place(tile);
    const T* const from = x + (walk.tap_offset(r, t) + c);
    const int valid = walk.channels - c;
#pragma unroll
    for (int pass = 0; pass < Plan::kPasses; ++pass) {
      const bool in = inside[pass] >> r & inside[pass] >> (16 + t) & 1;  // no bit is set past the last tap
      copy_chunk<kVector, true>(to + pass * Plan::kPassBytes, from + offset[pass], in ? valid : 0,
                                walk.channels % 2 == 0);
    }
    c += kCoreDepth;
    while (c >= int(walk.by_channels.divisor)) {
      c -= int(walk.by_channels.divisor);
      if (++t == walk.taps_right) {
        t = 0;
        ++r;
      }
    }
  }
};

// Rows: (tap, channel); depth: pixels. A thread stays with its tap and channels.
template <class T, bool kVector>
struct PatchLayers {
  static constexpr bool kDepthMajor = false;
  using Plan = CopyPlan<kCoreRows, false>;
  const T* x;
  const PatchWalk& walk;
  int down = 0, right = 0, offset = 0, valid = 0, pixel = 0;

  __device__ PatchLayers(const T* x_, const PatchWalk& walk_) : x(x_), walk(walk_) {}

  __device__ void begin(int row, int first) {
    const int at = row + Plan::chunk() * kChunk;
    const auto tap = walk.tap(at);
    down = tap.down * walk.down;
    right = tap.right * walk.right;
    offset = walk.tap_offset(tap.down, tap.right) + tap.channel;
    valid = at < walk.depth() ? walk.channels - tap.channel : 0;
    pixel = first + Plan::row(0);
  }

  __device__ void fetch(char* tile) {
    char* const to = Plan::place(tile);
#pragma unroll
    for (int pass = 0; pass < Plan::kPasses; ++pass) {
      const int number = pixel + pass * Plan::kStep;
      const auto at = walk.origin(number);
      const bool in = number < int(walk.pixels()) && walk.inside(at.h + down, at.w + right);
      const int from = ((at.n * walk.height + at.h) * walk.width + at.w) * walk.channels + offset;
      copy_chunk<kVector, true>(to + pass * Plan::kPassBytes, x + from, in ? valid : 0,
                                walk.channels % 2 == 0);
    }
    pixel += kCoreDepth;
  }
};

// f(kColumns, kVector, kMatrix), as constants, for tiles of so many columns; 64 without vectors.
template <class F>
void choose_core(int tile, bool vector, bool matrix, F&& f) {
  using std::bool_constant;
  using std::integral_constant;
  const auto with_columns = [&](auto kVector, auto kMatrix) {
    if (tile == 32) return f(integral_constant<int, 32>{}, kVector, kMatrix);
    if (tile == 64) return f(integral_constant<int, 64>{}, kVector, kMatrix);
    f(integral_constant<int, 128>{}, kVector, kMatrix);
  };
  if (vector && matrix) return with_columns(bool_constant<true>{}, bool_constant<true>{});
  if (vector) return with_columns(bool_constant<true>{}, bool_constant<false>{});
  f(integral_constant<int, 64>{}, bool_constant<false>{}, bool_constant<false>{});
}

// How operands get into shared memory: as a matrix in copies of eight values, four, or two; as patches in
// chunks, or value by value; as strips (conv2d_strips.h); a matrix whose depth is no more than kShallowDepth
// in steps of that; in tall tiles, those of 64 columns of which 48 are used, or wide ones. Kernels have it as
// an int, for readable names.
enum class Reads {
  matrix,
  matrix_by_4,
  matrix_by_2,
  chunks,
  values,
  strips,
  shallow_matrix,
  tall_strips,
  wide_matrix,
  large_matrix,
  tall_strips_of_48,
  wide_strips
};
constexpr int unit_of(Reads reads) {
  return reads == Reads::matrix_by_4 ? 4 : reads == Reads::matrix_by_2 ? 2 : kChunk;
}
constexpr bool is_matrix(Reads reads) {
  return reads == Reads::matrix || reads == Reads::matrix_by_4 || reads == Reads::matrix_by_2 ||
         reads == Reads::shallow_matrix || reads == Reads::wide_matrix || reads == Reads::large_matrix;
}
constexpr bool is_tall(Reads reads) {
  return reads == Reads::tall_strips || reads == Reads::tall_strips_of_48;
}
constexpr bool is_strips(Reads reads) {
  return reads == Reads::strips || reads == Reads::wide_strips || is_tall(reads);
}
// Of a tile.
constexpr int rows_of(Reads reads) {
  const bool wide = reads == Reads::wide_matrix || reads == Reads::wide_strips;
  return is_tall(reads)                 ? kTallRows
         : wide                         ? kWideRows
         : reads == Reads::large_matrix ? kLargeRows
                                        : kCoreRows;
}
constexpr int used_columns(Reads reads, int columns) {
  return reads == Reads::tall_strips_of_48 ? 48 : columns;
}
// Layers of a step.
constexpr int step_of(Reads reads) { return reads == Reads::shallow_matrix ? kShallowDepth : kCoreDepth; }
// The same reads where the depth is one short step.
constexpr Reads shallow(Reads reads, int64_t depth) {
  return depth <= kShallowDepth && reads == Reads::matrix ? Reads::shallow_matrix : reads;
}
// Of patches that are a `matrix`, or not, where a copy takes at most `unit` values.
constexpr Reads reads_of(int unit, bool matrix) {
  if (unit == kChunk) return matrix ? Reads::matrix : Reads::chunks;
  return !matrix || unit == 1 ? Reads::values : unit == 4 ? Reads::matrix_by_4 : Reads::matrix_by_2;
}

// Of a matrix in such tiles.
constexpr Reads reads_of(TileSize tile) {
  return tile.rows == kWideRows    ? Reads::wide_matrix
         : tile.rows == kLargeRows ? Reads::large_matrix
                                   : Reads::matrix;
}

// The same for others, but strips. By fours and twos are ShuffleNetV2's 116 and 58 channels.
template <class F>
void choose_reads(int tile, Reads reads, F&& f) {
  using std::integral_constant;
  using Columns64 = integral_constant<int, 64>;
  if (reads == Reads::matrix_by_4)
    return f(integral_constant<int, 128>{}, integral_constant<Reads, Reads::matrix_by_4>{});
  if (reads == Reads::matrix_by_2) return f(Columns64{}, integral_constant<Reads, Reads::matrix_by_2>{});
  choose_core(tile, reads != Reads::values, reads == Reads::matrix,
              [&](auto columns, auto vector, auto matrix) {
                constexpr Reads kReads = matrix() ? Reads::matrix : vector() ? Reads::chunks : Reads::values;
                f(columns, integral_constant<Reads, kReads>{});
              });
}

// The same where pixels may come as strips.
template <class F>
void choose_strip_reads(int tile, Reads reads, F&& f) {
  using std::integral_constant;
  constexpr integral_constant<int, 64> kColumns64;
  if (reads == Reads::tall_strips) {
    constexpr integral_constant<Reads, Reads::tall_strips> kTall;
    return tile == 32 ? f(integral_constant<int, 32>{}, kTall) : f(kColumns64, kTall);
  }
  if (reads == Reads::wide_strips)
    return f(integral_constant<int, 128>{}, integral_constant<Reads, Reads::wide_strips>{});
  if (reads == Reads::strips) {
    constexpr integral_constant<Reads, Reads::strips> kStrips;
    return tile == 64 ? f(kColumns64, kStrips) : f(integral_constant<int, 128>{}, kStrips);
  }
  if (reads == Reads::wide_matrix) {
    constexpr integral_constant<Reads, Reads::wide_matrix> kWide;
    return tile == 128 ? f(integral_constant<int, 128>{}, kWide) : f(integral_constant<int, 192>{}, kWide);
  }
  choose_reads(tile, reads, f);
}

// The same for forward products, of which matrices have tiles of 96 columns and shallow steps, too.
template <class F>
void choose_forward_reads(int tile, Reads reads, F&& f) {
  using std::integral_constant;
  const auto with_columns = [&](auto kind) {
    if (tile == 32) return f(integral_constant<int, 32>{}, kind);
    if (tile == 64) return f(integral_constant<int, 64>{}, kind);
    if (tile == 96) return f(integral_constant<int, 96>{}, kind);
    f(integral_constant<int, 128>{}, kind);
  };
  if (reads == Reads::shallow_matrix) return with_columns(integral_constant<Reads, Reads::shallow_matrix>{});
  if (reads == Reads::matrix) return with_columns(integral_constant<Reads, Reads::matrix>{});
  choose_strip_reads(tile, reads, f);
}

// Nothing may be empty, and places are counted in an int.
inline bool fits_core(const Tensor& x, const Tensor& w, const Tensor& y) {
  constexpr int64_t kMost = int64_t{1} << 30;
  return x.dtype() != DType::f32 && x.size() > 0 && w.size() > 0 && y.size() > 0 && x.size() < kMost &&
         w.size() < kMost && y.size() < kMost && w.dim(1) <= kMostTaps && w.dim(2) <= kMostTaps;
}
// Do rows of channels consist of whole chunks?
inline bool is_in_chunks(const Tensor& t) {
  return t.dim(-1) % kChunk == 0 && reinterpret_cast<uintptr_t>(t.raw()) % 16 == 0;
}

}  // namespace plume::PLUME_KERNELS
