// linear: three matrix products. "tiled" gives a block 64 x 64 outputs (tile_gemm.h), "direct" a thread one.
//
// forward         y[n, k]  = sum over c of x[n, c] w[k, c]     both operands along depth c
// backward_input  dx[n, c] = sum over k of dy[n, k] w[k, c]    dy along depth k, w along columns
// backward_weight dw[k, c] = sum over n of dy[n, k] x[n, c]    both along rows and columns
// A product with few outputs and a long depth is split over blocks along its depth; a second launch adds the
// slices in order, so results repeat bit for bit.
//
// FLOPs: 2 N C K each. Bytes: both inputs and the output once, and again for every 64 rows or columns. A
// 64-wide tile does 16 FLOPs per byte of f32 operands that it fetches; the bound is f32 arithmetic for large
// N, and the weight's bytes for a classifier of small N.
#include "engine/ops/linear.h"

#include "kernels/common/row_tiling.h"
#include "kernels/common/tile_gemm.h"

namespace plume::PLUME_KERNELS {
namespace {

// out [rows, columns] = A [rows, depth] B [depth, columns]
struct Product {
  int64_t rows, columns, depth;
};

// A is stored [rows, depth] (kDepthMajorA) or [depth, rows]; B [columns, depth] (kDepthMajorB) or
// [depth, columns]. Finish maps (sum, column, index) to what is stored.
template <class T, bool kDepthMajorA, bool kDepthMajorB, bool kVector, class Out, class Finish>
__global__ void __launch_bounds__(kTileThreads, 2)
    product_tiled(const T* __restrict__ a, const T* __restrict__ b, Product p, int64_t depth_per_slice,
                  Finish finish, Out* __restrict__ out) {
  const int64_t row0 = int64_t(blockIdx.x) * kTileRows, column0 = int64_t(blockIdx.y) * kTileColumns;
  const int64_t begin = int64_t(blockIdx.z) * depth_per_slice, end = min(begin + depth_per_slice, p.depth);
  MatrixOperand<T, kDepthMajorA, kVector> left(a, kDepthMajorA ? p.depth : p.rows, row0, p.rows, begin, end);
  MatrixOperand<T, kDepthMajorB, kVector> right(b, kDepthMajorB ? p.depth : p.columns, column0, p.columns,
                                                begin, end);
  TileSums sums = tile_gemm(left, right, int((end - begin + kTileDepth - 1) / kTileDepth));
  out += int64_t(blockIdx.z) * p.rows * p.columns;
  const int64_t column = column0 + sums.column(), valid = p.columns - column;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int64_t row = row0 + sums.row(i), at = row * p.columns + column;
    if (row >= p.rows) continue;
#pragma unroll
    for (int j = 0; j < 4; ++j)
      if (j < valid) sums.rows[i][j] = finish(sums.rows[i][j], int(column + j), at + j);
    store_quad(out + at, sums.rows[i], valid, p.columns % 4 == 0);
  }
}

template <class T, bool kDepthMajorA, bool kDepthMajorB, class Out, class Finish>
__global__ void __launch_bounds__(kTileThreads)
    product_direct(const T* __restrict__ a, const T* __restrict__ b, Product p, Finish finish,
                   Out* __restrict__ out) {
  const int64_t i = int64_t(blockIdx.x) * kTileThreads + threadIdx.x;
  if (i >= p.rows * p.columns) return;
  const int64_t row = i / p.columns, column = i - row * p.columns;
  float sum = 0.0f;
  for (int64_t d = 0; d < p.depth; ++d) {
    const T left = a[kDepthMajorA ? row * p.depth + d : d * p.rows + row];
    const T right = b[kDepthMajorB ? column * p.depth + d : d * p.columns + column];
    sum += float(left) * float(right);
  }
  out[i] = Out(finish(sum, int(column), i));
}

struct Unchanged {
  PLUME_HD float operator()(float sum, int, int64_t) const { return sum; }
};

template <class T, bool kDepthMajorA, bool kDepthMajorB, class Out, class Finish>
void launch_tiled(const Context& context, const T* a, const T* b, const Product& p, const DepthSplit& split,
                  const Finish& finish, Out* out) {
  const simt::Launch launch{dim3(unsigned(ceil_div(p.rows, kTileRows)),
                                 unsigned(ceil_div(p.columns, kTileColumns)), unsigned(split.slices)),
                            dim3(kTileThreads), 0, stream_of(context)};
  // Quads run along the depth of a depth-major operand, else along its rows or columns.
  const int64_t run_a = kDepthMajorA ? p.depth : p.rows, run_b = kDepthMajorB ? p.depth : p.columns;
  if (run_a % 4 == 0 && run_b % 4 == 0)
    simt::launch<product_tiled<T, kDepthMajorA, kDepthMajorB, true, Out, Finish>>(
        launch, a, b, p, split.depth_per_slice, finish, out);
  else
    simt::launch<product_tiled<T, kDepthMajorA, kDepthMajorB, false, Out, Finish>>(
        launch, a, b, p, split.depth_per_slice, finish, out);
}

// kLate: the result is a parameter's gradient.
template <bool kDepthMajorA, bool kDepthMajorB, bool kLate, class T>
void run_tiled(Context& context, const Tensor& a, const Tensor& b, const Product& p, T, Tensor& out) {
  const DepthSplit split(p.depth, ceil_div(p.rows, kTileRows) * ceil_div(p.columns, kTileColumns));
  if (split.slices == 1) {
    dispatch_result<T>(out.dtype(), [&](auto result) {
      launch_tiled<T, kDepthMajorA, kDepthMajorB>(context, a.data<T>(), b.data<T>(), p, split, Unchanged{},
                                                  out.data<decltype(result)>());
    });
    return;
  }
  Tensor partial = Tensor::empty({split.slices, p.rows, p.columns}, DType::f32, out.device(), "workspace");
  launch_tiled<T, kDepthMajorA, kDepthMajorB>(context, a.data<T>(), b.data<T>(), p, split, Unchanged{},
                                              partial.data<float>());
  if (kLate)
    finish_gradient<T>(context, partial, split.slices, out);
  else
    launch_sum_slices(context, partial.data<float>(), split.slices, out.size(), out.data<T>());
}

void forward_tiled(Context& context, const Tensor& x, const Tensor& w, const Epilogue& epilogue, Tensor& y) {
  if (y.size() == 0) return;
  const Product p{x.dim(0), w.dim(0), x.dim(1)};
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    DepthSplit whole(p.depth, INT64_MAX);  // the epilogue wants the finished sum: one slice
    launch_tiled<T, true, true>(context, x.data<T>(), w.data<T>(), p, whole, EpilogueView<T>(epilogue),
                                y.data<T>());
  });
}

void backward_input_tiled(Context& context, const Tensor& dy, const Tensor& w, Tensor& dx) {
  if (dx.size() == 0) return;
  dispatch_floating(dy.dtype(), [&](auto zero) {
    run_tiled<true, false, false>(context, dy, w, {dy.dim(0), w.dim(1), w.dim(0)}, zero, dx);
  });
}

void backward_weight_tiled(Context& context, const Tensor& x, const Tensor& dy, Tensor& dw) {
  if (dw.size() == 0) return;
  dispatch_floating(dy.dtype(), [&](auto zero) {
    run_tiled<false, false, true>(context, dy, x, {dy.dim(1), x.dim(1), x.dim(0)}, zero, dw);
  });
}

simt::Launch thread_per_output(const Context& context, const Tensor& out) {
  return {dim3(unsigned(ceil_div(out.size(), kTileThreads))), dim3(kTileThreads), 0, stream_of(context)};
}

void forward_direct(Context& context, const Tensor& x, const Tensor& w, const Epilogue& epilogue, Tensor& y) {
  if (y.size() == 0) return;
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    simt::launch<product_direct<T, true, true, T, EpilogueView<T>>>(
        thread_per_output(context, y), x.data<T>(), w.data<T>(), Product{x.dim(0), w.dim(0), x.dim(1)},
        EpilogueView<T>(epilogue), y.data<T>());
  });
}

void backward_input_direct(Context& context, const Tensor& dy, const Tensor& w, Tensor& dx) {
  if (dx.size() == 0) return;
  dispatch_floating(dy.dtype(), [&](auto zero) {
    using T = decltype(zero);
    simt::launch<product_direct<T, true, false, T, Unchanged>>(
        thread_per_output(context, dx), dy.data<T>(), w.data<T>(), Product{dy.dim(0), w.dim(1), w.dim(0)},
        Unchanged{}, dx.data<T>());
  });
}

void backward_weight_direct(Context& context, const Tensor& x, const Tensor& dy, Tensor& dw) {
  if (dw.size() == 0) return;
  dispatch_floating(dy.dtype(), [&](auto zero) {
    using T = decltype(zero);
    dispatch_result<T>(dw.dtype(), [&](auto result) {
      using Out = decltype(result);
      simt::launch<product_direct<T, false, false, Out, Unchanged>>(
          thread_per_output(context, dw), dy.data<T>(), x.data<T>(), Product{dy.dim(1), x.dim(1), x.dim(0)},
          Unchanged{}, dw.data<Out>());
    });
  });
}

const bool linear_registered =
    linear_forward.add(kThisDevice, {{"tiled", always, forward_tiled}, {"direct", always, forward_direct}}) &&
    linear_backward_input.add(
        kThisDevice, {{"tiled", always, backward_input_tiled}, {"direct", always, backward_input_direct}}) &&
    linear_backward_weight.add(
        kThisDevice, {{"tiled", always, backward_weight_tiled}, {"direct", always, backward_weight_direct}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
