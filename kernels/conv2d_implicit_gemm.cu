// conv2d, "implicit_gemm": the three passes as matrix products whose operands are gathered from the tensors
// on the way into shared memory; nothing is unrolled in global memory. A block makes 64 x 64 results, a
// thread 4 x 4 (tile_gemm.h).
//
// forward         rows: output pixels,  columns: filters k,  depth: (r, s, c) of the patch
// backward_input  rows: input pixels,   columns: channels c, depth: (r, s) that reach the pixel, then k
// backward_weight rows: filters k,      columns: (r, s, c),  depth: output pixels, split over blocks; a
// second
//                 launch adds the slices in order, so results repeat bit for bit
// With a stride, input pixels of one residue class (h mod stride, w mod stride) are reached by the same taps
// (r, s). backward_input gives every class its own blocks, which skip the others' taps.
//
// FLOPs: 2 N P Q K R S C each. Bytes: a tile fetches 128 values for 4096 multiply-adds (16 FLOPs per byte of
// f32), mostly from the caches, since patches overlap. The bound is f32 arithmetic.
#include "kernels/common/row_tiling.h"
#include "kernels/common/tile_gemm.h"
#include "kernels/conv2d_sizes.h"

namespace plume::PLUME_KERNELS {
namespace {

// Forward: element (output pixel, depth) of the unrolled input. A thread stays with its pixel. kVector: C is
// a multiple of 4, so that a quad never leaves its tap.
template <class T, bool kVector>
struct PatchRows {
  static constexpr bool kDepthMajor = true;
  const T* x;  // the pixel's image
  const ConvSizes& s;
  int top, left;  // input coordinates of tap (0, 0)
  int r, t, c;    // where depth stands
  bool pixel_exists;

  __device__ PatchRows(const T* x_, const ConvSizes& sizes, int64_t first_pixel)
      : s(sizes), r(0), t(0), c(0) {
    const QuadPlace place = quad_place<kDepthMajor>();
    const int64_t pixel = first_pixel + place.row;
    pixel_exists = pixel < s.out_pixels();
    const Index4 at(pixel_exists ? pixel : 0, s.out_height, s.out_width, 1);
    x = x_ + s.x_offset(at.a, 0, 0, 0);
    top = at.h * s.stride - s.padding;
    left = at.w * s.stride - s.padding;
    advance(place.depth);
  }

  __device__ void advance(int depth) {
    c += depth;
    while (c >= s.channels) {
      c -= s.channels;
      if (++t == s.filter_width) {
        t = 0;
        ++r;
      }
    }
  }

  // Null outside the image and past the last tap.
  __device__ const T* place() const {
    const int h = top + r * s.dilation, w = left + t * s.dilation;
    return pixel_exists && r < s.filter_height && s.inside(h, w) ? x + s.x_offset(0, h, w, c) : nullptr;
  }

  __device__ Quad fetch() {
    if constexpr (kVector) {
      const T* from = place();
      advance(kTileDepth);
      return load_quad<true>(from, from ? 4 : 0);
    } else {
      Quad quad;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const T* from = place();
        quad[i] = from ? float(*from) : 0.0f;
        advance(1);
      }
      advance(kTileDepth - 4);
      return quad;
    }
  }
};

template <class T, bool kVector>
__global__ void __launch_bounds__(kTileThreads, 2)
    conv2d_forward_tiled(const T* __restrict__ x, const T* __restrict__ w, const ConvSizes s,
                         EpilogueView<T> finish, T* __restrict__ y) {
  const int64_t first_pixel = int64_t(blockIdx.x) * kTileRows;
  const int first_filter = int(blockIdx.y) * kTileColumns, depth = s.patch();
  PatchRows<T, kVector> patches(x, s, first_pixel);
  MatrixOperand<T, true, kVector> filters(w, depth, first_filter, s.filters, 0, depth);
  TileSums sums = tile_gemm(patches, filters, (depth + kTileDepth - 1) / kTileDepth);

  const int k = first_filter + sums.column(), valid = s.filters - k;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int64_t pixel = first_pixel + sums.row(i), at = pixel * s.filters + k;
    if (pixel >= s.out_pixels()) continue;
#pragma unroll
    for (int j = 0; j < 4; ++j)
      if (j < valid) sums.rows[i][j] = finish(sums.rows[i][j], k + j, at + j);
    store_quad(y + at, sums.rows[i], valid, s.filters % 4 == 0);
  }
}

// The taps (r, t) that reach the input pixels of one residue class, and within each the filters k in steps of
// a tile's depth. All threads of a block take the same steps.
struct TapWalk {
  const ConvSizes& s;
  int row_class, column_class;  // h mod stride, w mod stride
  int r, t, k;

  __device__ TapWalk(const ConvSizes& sizes, int row_class_, int column_class_)
      : s(sizes), row_class(row_class_), column_class(column_class_), k(0) {
    r = next_row(0);
    t = next_column(0);
  }
  __device__ bool reaches(int residue, int tap) const {
    return (residue + s.padding - tap * s.dilation) % s.stride == 0;
  }
  __device__ int next_row(int from) const {
    while (from < s.filter_height && !reaches(row_class, from)) ++from;
    return from;
  }
  __device__ int next_column(int from) const {
    while (from < s.filter_width && !reaches(column_class, from)) ++from;
    return from;
  }
  __device__ void advance() {
    k += kTileDepth;
    if (k < s.filters) return;
    k = 0;
    t = next_column(t + 1);
    if (t < s.filter_width) return;
    t = next_column(0);
    r = next_row(r + 1);
  }
  __device__ int steps() const {
    int rows = 0, columns = 0;
    for (int i = next_row(0); i < s.filter_height; i = next_row(i + 1)) ++rows;
    for (int i = next_column(0); i < s.filter_width; i = next_column(i + 1)) ++columns;
    return rows * columns * ((s.filters + kTileDepth - 1) / kTileDepth);
  }
};

// The input pixels of a residue class: h = row_class + i * stride, likewise w.
struct ClassPixels {
  int row_class, column_class, rows, columns;

  __device__ ClassPixels(const ConvSizes& s, int number)
      : row_class(number / s.stride), column_class(number % s.stride) {
    rows = (s.height - row_class + s.stride - 1) / s.stride;
    columns = (s.width - column_class + s.stride - 1) / s.stride;
  }
  __device__ int64_t count(const ConvSizes& s) const {
    return rows > 0 && columns > 0 ? int64_t(s.images) * rows * columns : 0;
  }
};

// backward_input: element (input pixel, (tap, k)) = dy at the output pixel that the tap connects.
template <class T, bool kVector>
struct GradientRows {
  static constexpr bool kDepthMajor = true;
  const T* dy;
  const ConvSizes& s;
  TapWalk walk;
  int n, h, w, depth;
  bool pixel_exists;

  __device__ GradientRows(const T* dy_, const ConvSizes& sizes, const ClassPixels& pixels, int64_t first)
      : dy(dy_), s(sizes), walk(sizes, pixels.row_class, pixels.column_class) {
    const QuadPlace place = quad_place<kDepthMajor>();
    const int64_t pixel = first + place.row;
    pixel_exists = pixel < pixels.count(s);
    const Index4 at(pixel_exists ? pixel : 0, pixels.rows, pixels.columns, 1);
    n = at.a;
    h = pixels.row_class + at.h * s.stride;
    w = pixels.column_class + at.w * s.stride;
    depth = place.depth;
  }
  __device__ Quad fetch() {
    // Exact divisions: the walk visits no other taps.
    const int p = (h + s.padding - walk.r * s.dilation) / s.stride;
    const int q = (w + s.padding - walk.t * s.dilation) / s.stride;
    const int k = walk.k + depth;
    const bool exists = pixel_exists && s.inside_output(p, q);
    walk.advance();
    return load_quad<kVector>(exists ? dy + s.y_offset(n, p, q, k) : dy, exists ? s.filters - k : 0);
  }
};

// backward_input: element ((tap, k), channel) = w[k, r, t, c].
template <class T, bool kVector>
struct FilterColumns {
  static constexpr bool kDepthMajor = false;
  const T* w;
  const ConvSizes& s;
  TapWalk walk;
  int channel, depth;

  __device__ FilterColumns(const T* w_, const ConvSizes& sizes, const ClassPixels& pixels, int first_channel)
      : w(w_), s(sizes), walk(sizes, pixels.row_class, pixels.column_class) {
    const QuadPlace place = quad_place<kDepthMajor>();
    channel = first_channel + place.row;
    depth = place.depth;
  }
  __device__ Quad fetch() {
    const int k = walk.k + depth;
    const T* from = w + s.w_offset(k, walk.r, walk.t, channel);
    walk.advance();
    return load_quad<kVector>(from, k < s.filters ? s.channels - channel : 0);
  }
};

template <class T, bool kVector>
__global__ void __launch_bounds__(kTileThreads, 2)
    conv2d_backward_input_tiled(const T* __restrict__ dy, const T* __restrict__ w, const ConvSizes s,
                                T* __restrict__ dx) {
  const ClassPixels pixels(s, int(blockIdx.z));
  const int64_t first_pixel = int64_t(blockIdx.x) * kTileRows;
  if (first_pixel >= pixels.count(s)) return;
  const int first_channel = int(blockIdx.y) * kTileColumns;
  GradientRows<T, kVector> gradients(dy, s, pixels, first_pixel);
  FilterColumns<T, kVector> filters(w, s, pixels, first_channel);
  const TileSums sums = tile_gemm(gradients, filters, gradients.walk.steps());

  const int c = first_channel + sums.column(), valid = s.channels - c;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int64_t pixel = first_pixel + sums.row(i);
    if (pixel >= pixels.count(s)) continue;
    const Index4 at(pixel, pixels.rows, pixels.columns, 1);
    const int64_t to =
        s.x_offset(at.a, pixels.row_class + at.h * s.stride, pixels.column_class + at.w * s.stride, c);
    store_quad(dx + to, sums.rows[i], valid, s.channels % 4 == 0);
  }
}

// backward_weight: element (output pixel, (r, t, c)) of the unrolled input. A thread stays with its columns
// and moves 16 pixels a step.
template <class T, bool kVector>
struct PatchColumns {
  static constexpr bool kDepthMajor = false;
  static constexpr int kPlaces = kVector ? 1 : 4;
  const T* x;
  const ConvSizes& s;
  int down[kPlaces], right[kPlaces], channel[kPlaces];  // of the tap, from the patch's corner
  int columns;                                          // of this quad that exist
  int n, p, q;
  int64_t pixels_left;  // to the end of the slice, from this thread's pixel

  __device__ PatchColumns(const T* x_, const ConvSizes& sizes, int first_column, int64_t begin, int64_t end)
      : x(x_), s(sizes) {
    const QuadPlace place = quad_place<kDepthMajor>();
    columns = s.patch() - (first_column + place.row);
#pragma unroll
    for (int i = 0; i < kPlaces; ++i) {
      const Index4 tap(first_column + place.row + i, s.filter_height, s.filter_width, s.channels);
      down[i] = tap.h * s.dilation;
      right[i] = tap.w * s.dilation;
      channel[i] = tap.c;
    }
    const Index4 at(begin + place.depth, s.out_height, s.out_width, 1);
    n = at.a;
    p = at.h;
    q = at.w;
    pixels_left = end - (begin + place.depth);
  }

  __device__ const T* place(int i) const {
    const int h = p * s.stride - s.padding + down[i], w = q * s.stride - s.padding + right[i];
    return pixels_left > 0 && s.inside(h, w) ? x + s.x_offset(n, h, w, channel[i]) : nullptr;
  }

  __device__ Quad fetch() {
    Quad quad;
    if constexpr (kVector) {
      const T* from = place(0);
      quad = load_quad<true>(from, from ? columns : 0);
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const T* from = i < columns ? place(i) : nullptr;
        quad[i] = from ? float(*from) : 0.0f;
      }
    }
    pixels_left -= kTileDepth;
    q += kTileDepth;
    while (q >= s.out_width) {
      q -= s.out_width;
      if (++p == s.out_height) {
        p = 0;
        ++n;
      }
    }
    return quad;
  }
};

template <class T, bool kVector, class Out>
__global__ void __launch_bounds__(kTileThreads, 2)
    conv2d_backward_weight_tiled(const T* __restrict__ x, const T* __restrict__ dy, const ConvSizes s,
                                 int64_t pixels_per_slice, Out* __restrict__ dw) {
  const int first_filter = int(blockIdx.x) * kTileRows, first_column = int(blockIdx.y) * kTileColumns;
  const int64_t begin = int64_t(blockIdx.z) * pixels_per_slice;
  const int64_t end = min(begin + pixels_per_slice, s.out_pixels());
  MatrixOperand<T, false, kVector> gradients(dy, s.filters, first_filter, s.filters, begin, end);
  PatchColumns<T, kVector> patches(x, s, first_column, begin, end);
  const TileSums sums = tile_gemm(gradients, patches, int((end - begin + kTileDepth - 1) / kTileDepth));

  const int columns = s.patch(), column = first_column + sums.column();
  dw += int64_t(blockIdx.z) * s.filters * columns;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int k = first_filter + sums.row(i);
    if (k < s.filters)
      store_quad(dw + int64_t(k) * columns + column, sums.rows[i], columns - column, columns % 4 == 0);
  }
}

void run_forward(Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& params,
                 const Epilogue& epilogue, Tensor& y) {
  const ConvSizes s(x, w, y, params);
  const simt::Launch launch{
      dim3(unsigned(ceil_div(s.out_pixels(), kTileRows)), unsigned(ceil_div(s.filters, kTileColumns))),
      dim3(kTileThreads), 0, stream_of(context)};
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const EpilogueView<T> finish(epilogue);
    if (s.channels % 4 == 0)
      simt::launch<conv2d_forward_tiled<T, true>>(launch, x.data<T>(), w.data<T>(), s, finish, y.data<T>());
    else
      simt::launch<conv2d_forward_tiled<T, false>>(launch, x.data<T>(), w.data<T>(), s, finish, y.data<T>());
  });
}

void run_backward_input(Context& context, const Tensor& dy, const Tensor& w, const Conv2dParams& params,
                        Tensor& dx) {
  const ConvSizes s(dx, w, dy, params);
  const int64_t largest_class = s.images * ceil_div(s.height, s.stride) * ceil_div(s.width, s.stride);
  const simt::Launch launch{dim3(unsigned(ceil_div(largest_class, kTileRows)),
                                 unsigned(ceil_div(s.channels, kTileColumns)), unsigned(s.stride * s.stride)),
                            dim3(kTileThreads), 0, stream_of(context)};
  dispatch_floating(dy.dtype(), [&](auto zero) {
    using T = decltype(zero);
    if (s.channels % 4 == 0 && s.filters % 4 == 0)
      simt::launch<conv2d_backward_input_tiled<T, true>>(launch, dy.data<T>(), w.data<T>(), s, dx.data<T>());
    else
      simt::launch<conv2d_backward_input_tiled<T, false>>(launch, dy.data<T>(), w.data<T>(), s, dx.data<T>());
  });
}

template <class T, class Out>
void launch_backward_weight(const Context& context, const T* x, const T* dy, const ConvSizes& s,
                            const DepthSplit& split, Out* dw) {
  const simt::Launch launch{dim3(unsigned(ceil_div(s.filters, kTileRows)),
                                 unsigned(ceil_div(s.patch(), kTileColumns)), unsigned(split.slices)),
                            dim3(kTileThreads), 0, stream_of(context)};
  if (s.channels % 4 == 0 && s.filters % 4 == 0)
    simt::launch<conv2d_backward_weight_tiled<T, true, Out>>(launch, x, dy, s, split.depth_per_slice, dw);
  else
    simt::launch<conv2d_backward_weight_tiled<T, false, Out>>(launch, x, dy, s, split.depth_per_slice, dw);
}

void run_backward_weight(Context& context, const Tensor& x, const Tensor& dy, const Conv2dParams& params,
                         Tensor& dw) {
  const ConvSizes s(x, dw, dy, params);
  const DepthSplit split(s.out_pixels(), ceil_div(s.filters, kTileRows) * ceil_div(s.patch(), kTileColumns));
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    if (split.slices == 1) {
      dispatch_result<T>(dw.dtype(), [&](auto result) {
        launch_backward_weight(context, x.data<T>(), dy.data<T>(), s, split, dw.data<decltype(result)>());
      });
      return;
    }
    Tensor partial = Tensor::empty({split.slices, dw.size()}, DType::f32, dw.device(), "workspace");
    launch_backward_weight(context, x.data<T>(), dy.data<T>(), s, split, partial.data<float>());
    finish_gradient<T>(context, partial, split.slices, dw);
  });
}

// Nothing may be empty; direct takes what is.
bool fits_forward(const Context&, const Tensor& x, const Tensor& w, const Conv2dParams&, const Epilogue&,
                  Tensor& y) {
  return x.size() > 0 && w.size() > 0 && y.size() > 0;
}
bool fits_backward_input(const Context&, const Tensor& dy, const Tensor& w, const Conv2dParams& params,
                         Tensor& dx) {
  return dy.size() > 0 && w.size() > 0 && dx.size() > 0 && params.stride <= 16;
}
bool fits_backward_weight(const Context&, const Tensor& x, const Tensor& dy, const Conv2dParams&,
                          Tensor& dw) {
  return x.size() > 0 && dy.size() > 0 && dw.size() > 0;
}

const bool registered =
    conv2d_forward.add(kThisDevice, {{"implicit_gemm", fits_forward, run_forward}}) &&
    conv2d_backward_input.add(kThisDevice, {{"implicit_gemm", fits_backward_input, run_backward_input}}) &&
    conv2d_backward_weight.add(kThisDevice, {{"implicit_gemm", fits_backward_weight, run_backward_weight}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
