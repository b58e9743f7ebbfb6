// Patches of few channels as operands of the matrix core. Under one row of a filter lie taps_right * channels
// neighbouring values of an image row, here called a window, and depth (or rows) count (filter row, value of
// the window): of a 7x7 filter's 3 channels 7 * 22, where conv2d_patches.h has 49 taps of 8. Copies take two
// values at once. So that they begin at a multiple of 4 bytes a window may begin one value early: there, and
// at its end, the filter has zeros. At its end so has the window; an infinite value before it, of the next
// pixel to the left, becomes a NaN in the output: taking it out again would cost a stem a sixth of its time.
#pragma once
#include "kernels/conv2d_patches.h"

namespace plume::PLUME_KERNELS {

struct WindowWalk {
  int height, row_values;             // of x [N, height, row_values]
  int pixels, rows, columns;          // of y
  int taps_down, taps, window;        // filter rows, values of one, values of a window
  int lead;                           // 1: the window begins before the filter does
  int scale, step_values, top, left;  // pixel (i, j) begins in row i * scale + top, at j * step_values + left
  FastDivide by_columns, by_rows, by_window;

  explicit WindowWalk(const ConvSizes& s)
      : height(s.height),
        row_values(s.width * s.channels),
        pixels(int(s.out_pixels())),
        rows(s.out_height),
        columns(s.out_width),
        taps_down(s.filter_height),
        taps(s.filter_width * s.channels),
        window((s.padding * s.channels % 2 + taps + 1) / 2 * 2),
        lead(s.padding * s.channels % 2),
        scale(s.stride),
        step_values(s.stride * s.channels),
        top(-s.padding),
        left(-s.padding * s.channels - lead),
        by_columns(columns),
        by_rows(rows),
        by_window(window) {}

  // Windows of all pixels must begin at an even value, and end within the row or past its end.
  static bool fits(const ConvSizes& s, const void* x) {
    return s.dilation == 1 && s.width * s.channels % 2 == 0 && s.stride * s.channels % 2 == 0 &&
           reinterpret_cast<uintptr_t>(x) % 4 == 0;
  }
  PLUME_HD int depth() const { return taps_down * window; }

  // A value of a window, and which value of a filter [taps_down, taps] lies on it; -1: none.
  struct Value {
    int row, value;
  };
  __device__ __forceinline__ Value value(int depth) const {
    const int row = by_window(depth);
    return {row, depth - row * window};
  }
  __device__ __forceinline__ int of_filter(Value at) const {
    const int value = at.value - lead;
    return at.row < taps_down && unsigned(value) < unsigned(taps) ? at.row * taps + value : -1;
  }
};

// Copies of one place in the windows of pixels that are `kStep` apart. What is the same along a line of
// pixels is known before its copies.
template <class T, class Plan>
struct WindowCopies {
  const T* x;
  const WindowWalk& walk;
  int row = 0, value = 0;  // of the window
  int bytes = 4;           // of the copy that are the window's
  // Of the next pixel: its number, and in x its window's first row and value, and where that lies.
  int pixel = 0, h = 0, v = 0, from = 0;

  __device__ WindowCopies(const T* x_, const WindowWalk& walk_) : x(x_), walk(walk_) {}

  __device__ void to_value(int depth) {
    const auto at = walk.value(depth);
    row = at.row < walk.taps_down ? at.row : -1;
    value = at.value;
    bytes = value + 1 < walk.lead + walk.taps ? 4 : 2;
  }
  __device__ void to_pixel(int number) {
    const int line = walk.by_columns(number), n = walk.by_rows(line);
    pixel = number;
    h = (line - n * walk.rows) * walk.scale + walk.top;
    v = (number - line * walk.columns) * walk.step_values + walk.left;
    from = (n * walk.height + h) * walk.row_values + v;
  }
  __device__ void copy(char* tile) {
    const int to = Plan::begin(), line_values = walk.columns * walk.step_values;
    const int step = Plan::kStep * walk.step_values, line_end = walk.left + line_values + value;
    const auto in_image = [&](int number) {
      return row >= 0 && number < walk.pixels && unsigned(h + row) < unsigned(walk.height);
    };
    // From here on v and from are the place's own. Past the last pixel is no line.
    v += value;
    from += row * walk.row_values + value;
    bool in = in_image(pixel);
#pragma unroll 8
    for (int pass = 0; pass < Plan::kPasses; ++pass) {
      simt::async_copy<4, true>(Plan::place(tile, to, pass), x + from,
                                in && unsigned(v) < unsigned(walk.row_values) ? bytes : 0);
      v += step;
      from += step;
      while (v >= line_end) {
        v -= line_values;
        h += walk.scale;
        from += walk.scale * walk.row_values - line_values;
        if (h == walk.rows * walk.scale + walk.top) {  // the next image
          h = walk.top;
          from += (walk.height - walk.rows * walk.scale) * walk.row_values;
        }
        in = in_image(pixel + (pass + 1) * Plan::kStep);
      }
    }
    pixel += Plan::kPasses * Plan::kStep;
    v -= value;
    from -= row * walk.row_values + value;
  }
};

// Rows: pixels; depth: values of windows.
template <class T, int kDepth>
struct WindowRows {
  static constexpr bool kDepthMajor = true;
  using Plan = CopyPlan<kCoreRows, true, 2, kDepth>;
  WindowCopies<T, Plan> copies;
  int depth = 0;

  __device__ WindowRows(const T* x, const WindowWalk& walk) : copies(x, walk) {}
  __device__ void begin(int row, int first) {
    copies.to_pixel(row + Plan::row(0));
    depth = first + Plan::value();
  }
  __device__ void fetch(char* tile) {
    auto tile_copies = copies;
    tile_copies.to_value(depth);
    tile_copies.copy(tile);
    depth += kDepth;
  }
};

// Rows: values of windows; depth: pixels.
template <class T>
struct WindowLayers {
  static constexpr bool kDepthMajor = false;
  using Plan = CopyPlan<kCoreRows, false, 2>;
  WindowCopies<T, Plan> copies;

  __device__ WindowLayers(const T* x, const WindowWalk& walk) : copies(x, walk) {}
  __device__ void begin(int row, int first) {
    copies.to_value(row + Plan::value());
    copies.to_pixel(first + Plan::row(0));
  }
  __device__ void fetch(char* tile) {
    if (copies.row >= 0) copies.copy(tile);  // nobody stores sums of other rows
  }
};

// Rows: filters; depth: values of windows. Filters are read value by value.
template <class T, int kRows, int kDepth>
struct WindowFilters {
  static constexpr bool kDepthMajor = true;
  using Plan = CopyPlan<kRows, true, kChunk, kDepth>;
  const T* w;
  const WindowWalk& walk;
  int filters, patch;
  int filter = 0, depth = 0;

  __device__ WindowFilters(const T* w_, const WindowWalk& walk_, int filters_)
      : w(w_), walk(walk_), filters(filters_), patch(walk_.taps_down * walk_.taps) {}
  __device__ void begin(int row, int first) {
    filter = row + Plan::row(0);
    depth = first + Plan::value();
  }
  __device__ void fetch(char* tile) {
    const int to = Plan::begin();
    int from[kChunk];
#pragma unroll
    for (int i = 0; i < kChunk; ++i) from[i] = walk.of_filter(walk.value(depth + i));
#pragma unroll 1
    for (int pass = 0; pass < Plan::kPasses; ++pass) {
      const int row = filter + pass * Plan::kStep;
      Pack<T, kChunk> pack;
#pragma unroll
      for (int i = 0; i < kChunk; ++i)
        pack[i] = from[i] >= 0 && row < filters ? w[row * patch + from[i]] : T(0.0f);
      pack.store(reinterpret_cast<T*>(Plan::place(tile, to, pass)));
    }
    depth += kDepth;
  }
};

}  // namespace plume::PLUME_KERNELS
