// squeeze_excitation: one pass over x to pool, two products over all images (linear), one pass to scale.
// Backwards one pass over x and dy for the gates' gradients, the products, one pass for dx.
#include <algorithm>

#include "engine/cpu/parallel.h"
#include "engine/ops/activation.h"
#include "engine/ops/cast.h"
#include "engine/ops/linear.h"
#include "engine/ops/mbconv.h"
#include "engine/ops/sum_rows.h"

namespace plume::cpu {
namespace {

struct Sizes {
  int64_t images, height, width, channels, hidden;
  Sizes(const Tensor& x, const Tensor& w1)
      : images(x.dim(0)), height(x.dim(1)), width(x.dim(2)), channels(x.dim(3)), hidden(w1.dim(0)) {}
  int64_t plane() const { return height * width; }
};

// Calls f(image, first channel, channel count): pieces enough for all threads even of a single image.
template <class F>
void for_each_piece(const Sizes& z, const F& f) {
  constexpr int64_t kPiece = 64;
  const int64_t pieces = (z.channels + kPiece - 1) / kPiece;
  const int64_t grain = std::max<int64_t>(1, kElementGrain / std::max<int64_t>(kPiece * z.plane(), 1));
  parallel_for(z.images * pieces, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i % pieces * kPiece;
      f(i / pieces, first, std::min(kPiece, z.channels - first));
    }
  });
}

// sums[n, c] = sum over the plane of term(element), row by row, so that the chains of additions stay short.
template <class Term>
void plane_sums(const Sizes& z, float* sums, const Term& term) {
  for_each_piece(z, [&](int64_t n, int64_t first, int64_t count) {
    float row[64], *sum = sums + n * z.channels + first;
    std::fill_n(sum, count, 0.0f);
    for (int64_t h = 0; h < z.height; ++h) {
      std::fill_n(row, count, 0.0f);
      for (int64_t w = 0; w < z.width; ++w) {
        const int64_t at = ((n * z.height + h) * z.width + w) * z.channels + first;
        PLUME_SIMD
        for (int64_t c = 0; c < count; ++c) row[c] += term(at + c);
      }
      for (int64_t c = 0; c < count; ++c) sum[c] += row[c];
    }
  });
}

void divide(Tensor& values, int64_t by) {
  float* v = values.data<float>();
  parallel_for(values.size(), kElementGrain, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) v[i] /= float(by);
  });
}

// Calls f(pixel's first element, count of channels, its image's first gate).
template <class F>
void for_each_pixel(const Sizes& z, const F& f) {
  parallel_for(z.images * z.plane(), row_grain(z.channels), [&](int64_t begin, int64_t end) {
    for (int64_t pixel = begin; pixel < end; ++pixel)
      f(pixel * z.channels, z.channels, pixel / z.plane() * z.channels);
  });
}

// [N, parts, C] to [N, C].
Tensor add_parts(const Tensor& pooled) {
  const int64_t parts = pooled.dim(1), channels = pooled.dim(2);
  const Shape shape{pooled.dim(0), channels};
  if (parts == 1) return pooled.reshape(shape);
  Tensor means = Tensor::zeros(shape, DType::f32, pooled.device());
  const float* from = pooled.data<float>();
  float* to = means.data<float>();
  for (int64_t n = 0; n < pooled.dim(0); ++n, to += channels)
    for (int64_t part = 0; part < parts; ++part, from += channels)
      for (int64_t c = 0; c < channels; ++c) to[c] += from[c];
  return means;
}

void run_gate(Context& context, const Tensor& pooled, const Tensor& w1, const Tensor& b1, const Tensor& w2,
              const Tensor& b2, const SqueezeExcitationParams& params, Tensor& gate,
              SqueezeExcitationKept& kept) {
  const auto workspace = [&](const Shape& shape) {
    return Tensor::empty(shape, DType::f32, pooled.device(), "workspace");
  };
  const auto in_f32 = [&](const Tensor& w) {
    if (w.dtype() == DType::f32) return w;
    Tensor copy = workspace(w.shape());
    cast_forward(context, w, copy);
    return copy;
  };
  Tensor hidden = workspace({gate.dim(0), w1.dim(0)});
  const Tensor means = add_parts(pooled);
  if (kept.pooled.defined()) {
    kept.pooled.copy_from(means);
    linear_forward(context, means, in_f32(w1), {.shift = b1}, kept.z1);
    activation_forward(context, kept.z1, params.inner, hidden);
    linear_forward(context, hidden, in_f32(w2), {.shift = b2}, kept.z2);
    return activation_forward(context, kept.z2, params.gate, gate);
  }
  linear_forward(context, means, in_f32(w1), {.shift = b1, .activation = params.inner}, hidden);
  linear_forward(context, hidden, in_f32(w2), {.shift = b2, .activation = params.gate}, gate);
}

void run_forward(Context& context, const Tensor& x, const Tensor& w1, const Tensor& b1, const Tensor& w2,
                 const Tensor& b2, const SqueezeExcitationParams& params, Tensor& y, Tensor& pooled,
                 Tensor& z1, Tensor& z2) {
  if (x.size() == 0) return;
  const Sizes z(x, w1);
  dispatch_floating(x.dtype(), [&](auto zero) {
    const auto* in = x.data<decltype(zero)>();
    plane_sums(z, pooled.data<float>(), [=](int64_t i) { return float(in[i]); });
  });
  divide(pooled, z.plane());
  Tensor hidden = empty_like(z1), gates = empty_like(z2);
  linear_forward(context, pooled, w1, {.shift = b1}, z1);
  activation_forward(context, z1, params.inner, hidden);
  linear_forward(context, hidden, w2, {.shift = b2}, z2);
  activation_forward(context, z2, params.gate, gates);
  const float* gate = gates.data<float>();
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* in = x.data<T>();
    T* out = y.data<T>();
    for_each_pixel(z, [=](int64_t at, int64_t count, int64_t image) {
      PLUME_SIMD
      for (int64_t c = 0; c < count; ++c) out[at + c] = T(float(in[at + c]) * gate[image + c]);
    });
  });
}

void run_backward(Context& context, const Tensor& x, const Tensor& dy, const Tensor& w1, const Tensor& w2,
                  const Tensor& pooled, const Tensor& z1, const Tensor& z2,
                  const SqueezeExcitationParams& params, Tensor& dx, Tensor& dw1, Tensor& db1, Tensor& dw2,
                  Tensor& db2) {
  const Sizes z(x, w1);
  Tensor dz2 = empty_like(z2), dz1 = empty_like(z1), hidden = empty_like(z1), gates = empty_like(z2);
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T *in = x.data<T>(), *gradient = dy.data<T>();
    plane_sums(z, dz2.data<float>(), [=](int64_t i) { return float(in[i]) * float(gradient[i]); });
  });
  activation_backward(context, z2, dz2, params.gate, dz2);
  activation_forward(context, z1, params.inner, hidden);
  linear_backward_weight(context, hidden, dz2, dw2);
  sum_rows_forward(context, dz2, db2);
  linear_backward_input(context, dz2, w2, dz1);
  activation_backward(context, z1, dz1, params.inner, dz1);
  linear_backward_weight(context, pooled, dz1, dw1);
  sum_rows_forward(context, dz1, db1);
  Tensor& shift = dz2;  // dpooled / (H W); dz2 is not read any more
  linear_backward_input(context, dz1, w1, shift);
  divide(shift, z.plane());
  activation_forward(context, z2, params.gate, gates);
  const float *gate = gates.data<float>(), *more = shift.data<float>();
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* gradient = dy.data<T>();
    T* out = dx.data<T>();
    for_each_pixel(z, [=](int64_t at, int64_t count, int64_t image) {
      PLUME_SIMD
      for (int64_t c = 0; c < count; ++c)
        out[at + c] = T(float(gradient[at + c]) * gate[image + c] + more[image + c]);
    });
  });
}

const bool registered = squeeze_excitation_forward.add(Device::cpu, {{"products", always, run_forward}}) &&
                        squeeze_excitation_backward.add(Device::cpu, {{"products", always, run_backward}}) &&
                        squeeze_gate_forward.add(Device::cpu, {{"products", always, run_gate}});

}  // namespace
}  // namespace plume::cpu
