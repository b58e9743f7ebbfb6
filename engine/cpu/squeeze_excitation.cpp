// squeeze_excitation: one pass over x to pool, two small products per image, one pass to scale. Backwards one
// pass over x and dy for the gates' gradients, the small products, one pass for dx. Sums over images run in
// order.
#include <algorithm>

#include "engine/cpu/parallel.h"
#include "engine/ops/cast.h"
#include "engine/ops/mbconv.h"

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

// out[i] = bias[i] + sum over j of w[i, j] in[j]
void matrix_vector(const float* w, const float* in, const float* bias, int64_t rows, int64_t columns,
                   float* out) {
  for (int64_t i = 0; i < rows; ++i) {
    float sum = 0.0f;
    PLUME_SIMD_SUM(sum)
    for (int64_t j = 0; j < columns; ++j) sum += w[i * columns + j] * in[j];
    out[i] = sum + bias[i];
  }
}
// out[j] = sum over i of w[i, j] in[i]
void vector_matrix(const float* in, const float* w, int64_t rows, int64_t columns, float* out) {
  std::fill_n(out, columns, 0.0f);
  for (int64_t i = 0; i < rows; ++i) {
    const float factor = in[i];
    PLUME_SIMD
    for (int64_t j = 0; j < columns; ++j) out[j] += factor * w[i * columns + j];
  }
}
// out[i, j] = sum over n of left[n, i] right[n, j];  sums[i] = sum over n of left[n, i]
void outer_products(const float* left, const float* right, int64_t images, int64_t rows, int64_t columns,
                    float* out, float* sums) {
  parallel_for(rows, row_grain(columns * images), [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float *row = out + i * columns, sum = 0.0f;
      std::fill_n(row, columns, 0.0f);
      for (int64_t n = 0; n < images; ++n) {
        const float factor = left[n * rows + i];
        sum += factor;
        PLUME_SIMD
        for (int64_t j = 0; j < columns; ++j) row[j] += factor * right[n * columns + j];
      }
      sums[i] = sum;
    }
  });
}

// Images that make a piece of work of the small products.
int64_t image_grain(const Sizes& z) { return row_grain(2 * z.channels * z.hidden); }

// Both products for the images begin to end - 1. z1 and z2 may be null.
void compute_gates(const Sizes& z, int64_t begin, int64_t end, const float* mean, const Tensor& w1,
                   const Tensor& b1, const Tensor& w2, const Tensor& b2,
                   const SqueezeExcitationParams& params, float* z1, float* z2, float* gate) {
  std::vector<float> hidden(static_cast<size_t>(z.hidden));
  for (int64_t n = begin; n < end; ++n) {
    const int64_t at = n * z.channels;
    matrix_vector(w1.data<float>(), mean + at, b1.data<float>(), z.hidden, z.channels, hidden.data());
    if (z1) std::copy(hidden.begin(), hidden.end(), z1 + n * z.hidden);
    for (float& v : hidden) v = activate(params.inner, v);
    matrix_vector(w2.data<float>(), hidden.data(), b2.data<float>(), z.channels, z.hidden, gate + at);
    if (z2) std::copy_n(gate + at, z.channels, z2 + at);
    for (int64_t c = at; c < at + z.channels; ++c) gate[c] = activate(params.gate, gate[c]);
  }
}

void run_gate(Context& context, const Tensor& pooled, const Tensor& w1, const Tensor& b1, const Tensor& w2,
              const Tensor& b2, const SqueezeExcitationParams& params, Tensor& gate) {
  if (w1.dtype() != DType::f32) {
    const auto in_f32 = [&](const Tensor& w) {
      Tensor copy = Tensor::empty(w.shape(), DType::f32, w.device(), "workspace");
      cast_forward(context, w, copy);
      return copy;
    };
    return run_gate(context, pooled, in_f32(w1), b1, in_f32(w2), b2, params, gate);
  }
  const Sizes z(pooled.reshape({pooled.dim(0), 1, 1, pooled.dim(1)}), w1);
  if (z.images == 1) {  // reading the weights is the bound: threads share their rows
    std::vector<float> hidden(static_cast<size_t>(z.hidden));
    const auto product = [](const Tensor& w, const Tensor& bias, Activation activation, const float* in,
                            int64_t rows, int64_t columns, float* out) {
      const float *pw = w.data<float>(), *pb = bias.data<float>();
      parallel_for(rows, row_grain(columns), [=](int64_t begin, int64_t end) {
        matrix_vector(pw + begin * columns, in, pb + begin, end - begin, columns, out + begin);
        for (int64_t i = begin; i < end; ++i) out[i] = activate(activation, out[i]);
      });
    };
    product(w1, b1, params.inner, pooled.data<float>(), z.hidden, z.channels, hidden.data());
    product(w2, b2, params.gate, hidden.data(), z.channels, z.hidden, gate.data<float>());
    return;
  }
  parallel_for(z.images, image_grain(z), [&](int64_t begin, int64_t end) {
    compute_gates(z, begin, end, pooled.data<float>(), w1, b1, w2, b2, params, nullptr, nullptr,
                  gate.data<float>());
  });
}

void run_forward(Context&, const Tensor& x, const Tensor& w1, const Tensor& b1, const Tensor& w2,
                 const Tensor& b2, const SqueezeExcitationParams& params, Tensor& y, Tensor& pooled,
                 Tensor& z1, Tensor& z2) {
  if (x.size() == 0) return;
  const Sizes z(x, w1);
  float* mean = pooled.data<float>();
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* in = x.data<T>();
    T* out = y.data<T>();
    plane_sums(z, mean, [=](int64_t i) { return float(in[i]); });
    Tensor gates = empty_like(pooled);
    float* gate = gates.data<float>();
    parallel_for(z.images, image_grain(z), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin * z.channels; i < end * z.channels; ++i) mean[i] /= float(z.plane());
      compute_gates(z, begin, end, mean, w1, b1, w2, b2, params, z1.data<float>(), z2.data<float>(), gate);
    });
    parallel_for(z.images * z.plane(), row_grain(z.channels), [=, &z](int64_t begin, int64_t end) {
      for (int64_t pixel = begin; pixel < end; ++pixel) {
        const float* g = gate + pixel / z.plane() * z.channels;
        const T* from = in + pixel * z.channels;
        T* to = out + pixel * z.channels;
        PLUME_SIMD
        for (int64_t c = 0; c < z.channels; ++c) to[c] = T(float(from[c]) * g[c]);
      }
    });
  });
}

void run_backward(Context&, const Tensor& x, const Tensor& dy, const Tensor& w1, const Tensor& w2,
                  const Tensor& pooled, const Tensor& z1, const Tensor& z2,
                  const SqueezeExcitationParams& params, Tensor& dx, Tensor& dw1, Tensor& db1, Tensor& dw2,
                  Tensor& db2) {
  const Sizes z(x, w1);
  const float *pw1 = w1.data<float>(), *pw2 = w2.data<float>(), *pz1 = z1.data<float>(),
              *pz2 = z2.data<float>();
  Tensor dz2 = empty_like(z2), dz1 = empty_like(z1), hidden = empty_like(z1), gates = empty_like(z2);
  Tensor shift = empty_like(pooled);  // dpooled / (H W)
  float *pdz2 = dz2.data<float>(), *pdz1 = dz1.data<float>(), *phidden = hidden.data<float>();
  float *gate = gates.data<float>(), *pshift = shift.data<float>();
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T *in = x.data<T>(), *gradient = dy.data<T>();
    T* out = dx.data<T>();
    plane_sums(z, pdz2, [=](int64_t i) { return float(in[i]) * float(gradient[i]); });
    parallel_for(z.images, image_grain(z), [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        float *d2 = pdz2 + n * z.channels, *d1 = pdz1 + n * z.hidden, *s = pshift + n * z.channels;
        for (int64_t c = 0; c < z.channels; ++c) {
          const float v = pz2[n * z.channels + c];
          gate[n * z.channels + c] = activate(params.gate, v);
          d2[c] *= slope_from_input(params.gate, v);
        }
        vector_matrix(d2, pw2, z.channels, z.hidden, d1);
        for (int64_t q = 0; q < z.hidden; ++q) {
          const float v = pz1[n * z.hidden + q];
          phidden[n * z.hidden + q] = activate(params.inner, v);
          d1[q] *= slope_from_input(params.inner, v);
        }
        vector_matrix(d1, pw1, z.hidden, z.channels, s);
        for (int64_t c = 0; c < z.channels; ++c) s[c] /= float(z.plane());
      }
    });
    parallel_for(z.images * z.plane(), row_grain(z.channels), [=, &z](int64_t begin, int64_t end) {
      for (int64_t pixel = begin; pixel < end; ++pixel) {
        const int64_t image = pixel / z.plane() * z.channels;
        const T* from = gradient + pixel * z.channels;
        T* to = out + pixel * z.channels;
        PLUME_SIMD
        for (int64_t c = 0; c < z.channels; ++c)
          to[c] = T(float(from[c]) * gate[image + c] + pshift[image + c]);
      }
    });
  });
  outer_products(pdz2, phidden, z.images, z.channels, z.hidden, dw2.data<float>(), db2.data<float>());
  outer_products(pdz1, pooled.data<float>(), z.images, z.hidden, z.channels, dw1.data<float>(),
                 db1.data<float>());
}

const bool registered = squeeze_excitation_forward.add(Device::cpu, {{"loop", always, run_forward}}) &&
                        squeeze_excitation_backward.add(Device::cpu, {{"loop", always, run_backward}}) &&
                        squeeze_gate_forward.add(Device::cpu, {{"loop", always, run_gate}});

}  // namespace
}  // namespace plume::cpu
