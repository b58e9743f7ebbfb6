// conv2d by matrix products over the batch, one output position at a time; for small images and large
// batches.
//
// In NHWC the inputs of output position (p, q) under filter row r are one contiguous run of pixels, the same
// run in every image. So for each (p, q, r), with the taps that fall into the padding left out,
//
//   y[:, p, q, :]          += x[:, h, w0:w1, :]  *  w[:, r, s0:s1, :]^T      [N, run] x [run, K]
//   dx[:, h, w0:w1, :]     += dy[:, p, q, :]     *  w[:, r, s0:s1, :]        [N, K] x [K, run]
//   dw[:, r, s0:s1, :]     += dy[:, p, q, :]^T   *  x[:, h, w0:w1, :]        [K, N] x [N, run]
//
// are products of strided matrices that lie in memory already: nothing is gathered, packed or padded.
// Convolution algorithms that tile the image plane waste most of their work on planes of 1x1 to 4x4: a 3x3
// filter on a 1x1 plane has one tap out of nine inside the image. Sums run in a fixed order, whatever the
// number of threads.
#include <algorithm>

#include "engine/cpu/conv/onednn.h"
#include "engine/cpu/parallel.h"
#include "engine/ops/conv2d.h"

#if PLUME_HAVE_ONEDNN
#include <dnnl.h>

namespace plume::cpu {
namespace {

struct Geometry {
  int n, h, w, c, k, r, s, p, q;
  Conv2dParams params;
  int64_t x_image() const { return int64_t(h) * w * c; }
  int64_t y_image() const { return int64_t(p) * q * k; }
  int64_t filter() const { return int64_t(r) * s * c; }
};

Geometry geometry(const Shape& x, const Shape& filter, const Shape& y, const Conv2dParams& params) {
  return {int(x[0]),      int(x[1]),      int(x[2]), int(x[3]), int(filter[0]),
          int(filter[1]), int(filter[2]), int(y[1]), int(y[2]), params};
}

// The pixels under one filter row at one output position that lie inside the image.
struct Run {
  int64_t x_offset;       // of the first pixel, inside an image
  int64_t filter_offset;  // of the first tap, inside one filter
  int length;             // pixels times channels
};

// Calls f(output position, run) in a fixed order.
template <class F>
void for_each_run(const Geometry& g, F&& f) {
  for (int p = 0; p < g.p; ++p)
    for (int q = 0; q < g.q; ++q)
      for (int r = 0; r < g.r; ++r) {
        const int h = p * g.params.stride - g.params.padding + r, w = q * g.params.stride - g.params.padding;
        const int s0 = std::max(0, -w), s1 = std::min(g.s, g.w - w);
        if (h < 0 || h >= g.h || s1 <= s0) continue;
        f(p * g.q + q,
          Run{(int64_t(h) * g.w + w + s0) * g.c, (int64_t(r) * g.s + s0) * g.c, (s1 - s0) * g.c});
      }
}

void multiply(char transpose_a, char transpose_b, int64_t m, int64_t n, int64_t k, const float* a,
              int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc) {
  if (dnnl_sgemm(transpose_a, transpose_b, m, n, k, 1.0f, a, lda, b, ldb, beta, c, ldc) != dnnl_success)
    fail(ErrorKind::internal, "conv2d: dnnl_sgemm refused {} x {} x {}", m, n, k);
}

// The work is cut into this many parts whatever the number of threads, so that results do not depend on it.
constexpr int kParts = 4;
constexpr int kSmallestBatch = 16;  // fewer rows do not fill a product's registers

void forward(Context&, const Tensor& x, const Tensor& w, const Conv2dParams& params, const Epilogue& epilogue,
             Tensor& y) {
  const Geometry g = geometry(x.shape(), w.shape(), y.shape(), params);
  const float *px = x.data<float>(), *pw = w.data<float>();
  float* py = y.data<float>();
  const EpilogueView<float> finish(epilogue);
  for_each_onednn_piece(kParts, [&](int64_t part) {
    const int64_t k0 = g.k * part / kParts, k1 = g.k * (part + 1) / kParts;
    if (k0 == k1) return;
    int started = -1;  // output positions come in order; the first run of each overwrites
    for_each_run(g, [&](int position, const Run& run) {
      multiply('N', 'T', g.n, k1 - k0, run.length, px + run.x_offset, g.x_image(),
               pw + k0 * g.filter() + run.filter_offset, g.filter(), started == position ? 1.0f : 0.0f,
               py + int64_t(position) * g.k + k0, g.y_image());
      started = position;
    });
    if (epilogue.empty()) return;
    for (int64_t row = 0; row < int64_t(g.n) * g.p * g.q; ++row)
      for (int64_t k = k0; k < k1; ++k) {
        const int64_t i = row * g.k + k;
        py[i] = finish(py[i], int(k), i);
      }
  });
}

void backward_input(Context&, const Tensor& dy, const Tensor& w, const Conv2dParams& params, Tensor& dx) {
  const Geometry g = geometry(dx.shape(), w.shape(), dy.shape(), params);
  const float *pdy = dy.data<float>(), *pw = w.data<float>();
  float* pdx = dx.data<float>();
  for_each_onednn_piece(kParts, [&](int64_t part) {
    const int64_t n0 = g.n * part / kParts, n1 = g.n * (part + 1) / kParts;
    std::fill(pdx + n0 * g.x_image(), pdx + n1 * g.x_image(), 0.0f);
    for_each_run(g, [&](int position, const Run& run) {
      multiply('N', 'N', n1 - n0, run.length, g.k, pdy + n0 * g.y_image() + int64_t(position) * g.k,
               g.y_image(), pw + run.filter_offset, g.filter(), 1.0f, pdx + n0 * g.x_image() + run.x_offset,
               g.x_image());
    });
  });
}

void backward_weight(Context&, const Tensor& x, const Tensor& dy, const Conv2dParams& params, Tensor& dw) {
  const Geometry g = geometry(x.shape(), dw.shape(), dy.shape(), params);
  const float *px = x.data<float>(), *pdy = dy.data<float>();
  float* pdw = dw.data<float>();
  for_each_onednn_piece(kParts, [&](int64_t part) {
    const int64_t k0 = g.k * part / kParts, k1 = g.k * (part + 1) / kParts;
    if (k0 == k1) return;
    std::fill(pdw + k0 * g.filter(), pdw + k1 * g.filter(), 0.0f);
    for_each_run(g, [&](int position, const Run& run) {
      multiply('T', 'N', k1 - k0, run.length, g.n, pdy + int64_t(position) * g.k + k0, g.y_image(),
               px + run.x_offset, g.x_image(), 1.0f, pdw + k0 * g.filter() + run.filter_offset, g.filter());
    });
  });
}

// Every output position must see the image, or the forward pass would leave it unwritten.
bool usable(const Tensor& x, int64_t filter_height, int64_t filter_width, const Conv2dParams& p) {
  return x.dtype() == DType::f32 && p.dilation == 1 && p.padding < filter_height && p.padding < filter_width;
}

// Measured against oneDNN's direct convolution at batch 64 (3x3, 64 to 512 channels): faster up to 4x4
// outputs forwards and for the input gradient, up to 2x2 for the filter gradient, whose sums are only as long
// as the batch. There oneDNN 2.6 is a hundred times slower than a plain loop, at small batches too.
constexpr int64_t kLargestPlaneWeight = 4;
int64_t plane(const Tensor& y) { return y.dim(1) * y.dim(2); }

bool fits_forward(const Context&, const Tensor& x, const Tensor& w, const Conv2dParams& p, const Epilogue&,
                  Tensor& y) {
  return usable(x, w.dim(1), w.dim(2), p) && x.dim(0) >= kSmallestBatch && plane(y) <= kLargestPositionPlane;
}
bool fits_backward_input(const Context&, const Tensor& dy, const Tensor& w, const Conv2dParams& p, Tensor&) {
  return usable(dy, w.dim(1), w.dim(2), p) && dy.dim(0) >= kSmallestBatch &&
         plane(dy) <= kLargestPositionPlane;
}
bool fits_backward_weight(const Context&, const Tensor& x, const Tensor& dy, const Conv2dParams& p,
                          Tensor& dw) {
  return usable(x, dw.dim(1), dw.dim(2), p) && plane(dy) <= kLargestPlaneWeight;
}

const bool registered =
    conv2d_forward.add(Device::cpu, {{"position_gemm", fits_forward, forward}}, KernelSlotBase::kSpecial) &&
    conv2d_backward_input.add(Device::cpu, {{"position_gemm", fits_backward_input, backward_input}},
                              KernelSlotBase::kSpecial) &&
    conv2d_backward_weight.add(Device::cpu, {{"position_gemm", fits_backward_weight, backward_weight}},
                               KernelSlotBase::kSpecial);

}  // namespace
}  // namespace plume::cpu

#endif  // PLUME_HAVE_ONEDNN
