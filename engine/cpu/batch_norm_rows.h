// Batch norm's passes over rows of f32, for a width of vectors that the including file chooses.
//
// Rows of few channels come several at once, as wide rows with the parameters repeated (batch_norm.cpp): a
// row of sixteen channels is one vector, and a loop's beginning and end would cost as much as what it does.
//
// Included by files that are compiled for different processors, as depthwise_row.h is.
#pragma once
#include <cstdint>

#include "engine/math/activation.h"

namespace plume::cpu {

// x [rows, width] and its parameters [width]; `width` is a multiple of the kernel's lanes.
struct NormRows {
  const float *x, *mean, *scale, *beta;  // scale = gamma * inv_std
  Activation activation;
  int64_t rows, width;
};

// y = activation((x - mean) * scale + beta + residual); with `dropped`, y = activation(...) * kept + residual
struct NormaliseRows : NormRows {
  const float* residual;  // or null
  bool dropped;
  float kept;
  float* y;
};

// sums [2, width] += the sums of (x - shift) and (x - shift)^2
struct MomentRows {
  const float *x, *shift;
  int64_t rows, width;
  float* sums;
};

// dz = slope * (dy + more) * kept, the gradient before the activation.
struct GradientRows : NormRows {
  const float *y, *dy, *more;  // y: where the slope comes from the output, or null; more: or null
  float kept;
};

// sums [2, width] += the sums of dz and dz * (x - mean)
struct GradientSumRows : GradientRows {
  float *dz, *joined;  // or null; joined = dy + more
  float* sums;
};

// dx = a * dz + b * (x - mean) + d, where dx may be dy
struct InputGradientRows : GradientRows {
  const float *a, *b, *d;
  float* dx;
};

struct BatchNormKernels {
  int lanes;
  void (*normalise)(const NormaliseRows&);
  void (*moments)(const MomentRows&);
  void (*gradient_sums)(const GradientSumRows&);
  void (*input_gradient)(const InputGradientRows&);
};

#if defined(__x86_64__)
extern const BatchNormKernels batch_norm_kernels_avx512;
#endif

// Jobs come by value: a vector may be stored anywhere, so that what a reference leads to would be loaded
// again after every store.
template <class Lanes, Activation kActivation>
void normalise_rows(NormaliseRows r) {
  using Vector = typename Lanes::Vector;
  for (int64_t row = 0; row < r.rows; ++row)
    for (int64_t c = 0; c < r.width; c += Lanes::kCount) {
      const int64_t i = row * r.width + c;
      Vector v = (Lanes::load(r.x + i) - Lanes::load(r.mean + c)) * Lanes::load(r.scale + c) +
                 Lanes::load(r.beta + c);
      if (r.dropped) {
        v = activate(kActivation, v) * r.kept + Lanes::load(r.residual + i);
      } else {
        if (r.residual) v += Lanes::load(r.residual + i);
        v = activate(kActivation, v);
      }
      Lanes::store(r.y + i, v);
    }
}

// Four rows per visit of the sums, then one. add(row, c, sum, product) adds a vector's terms.
template <class Lanes, class Add>
void sum_over_rows(int64_t rows, int64_t width, float* sums, const Add& add) {
  using Vector = typename Lanes::Vector;
  const auto visit = [&](int64_t row, auto count) __attribute__((always_inline)) {
    for (int64_t c = 0; c < width; c += Lanes::kCount) {
      Vector sum{}, product{};
      for (int64_t k = 0; k < count; ++k) add(row + k, c, sum, product);
      Lanes::store(sums + c, Lanes::load(sums + c) + sum);
      Lanes::store(sums + width + c, Lanes::load(sums + width + c) + product);
    }
  };
  int64_t row = 0;
  for (; row + 4 <= rows; row += 4) visit(row, std::integral_constant<int64_t, 4>{});
  for (; row < rows; ++row) visit(row, std::integral_constant<int64_t, 1>{});
}

template <class Lanes>
void moment_rows(MomentRows r) {
  using Vector = typename Lanes::Vector;
  sum_over_rows<Lanes>(
      r.rows, r.width,
      r.sums, [&](int64_t row, int64_t c, Vector & sum, Vector & squares) __attribute__((always_inline)) {
        const Vector v = Lanes::load(r.x + row * r.width + c) - Lanes::load(r.shift + c);
        sum += v;
        squares += v * v;
      });
}

// `joined`: dy + more.
template <class Lanes, Activation kActivation, bool kFromOutput>
inline typename Lanes::Vector through_activation(const GradientRows& r, int64_t i, int64_t c,
                                                 typename Lanes::Vector joined,
                                                 typename Lanes::Vector centred) {
  using Vector = typename Lanes::Vector;
  const Vector dy = joined * r.kept;
  if constexpr (kActivation == Activation::identity)
    return dy;
  else if constexpr (kFromOutput)
    return through_slope(dy, slope_from_output(kActivation, Lanes::load(r.y + i)));
  else
    return through_slope(
        dy, slope_from_input(kActivation, centred * Lanes::load(r.scale + c) + Lanes::load(r.beta + c)));
}

template <class Lanes>
inline typename Lanes::Vector joined_gradient(const GradientRows& r, int64_t i) {
  return r.more ? Lanes::load(r.dy + i) + Lanes::load(r.more + i) : Lanes::load(r.dy + i);
}

template <class Lanes, Activation kActivation, bool kFromOutput>
void gradient_sum_rows(GradientSumRows r) {
  using Vector = typename Lanes::Vector;
  sum_over_rows<Lanes>(
      r.rows, r.width,
      r.sums, [&](int64_t row, int64_t c, Vector & sum, Vector & product) __attribute__((always_inline)) {
        const int64_t i = row * r.width + c;
        const Vector centred = Lanes::load(r.x + i) - Lanes::load(r.mean + c);
        const Vector joined = joined_gradient<Lanes>(r, i);
        const Vector dz = through_activation<Lanes, kActivation, kFromOutput>(r, i, c, joined, centred);
        if (r.joined) Lanes::store(r.joined + i, joined);
        if (r.dz) Lanes::store(r.dz + i, dz);
        sum += dz;
        product += dz * centred;
      });
}

template <class Lanes, Activation kActivation, bool kFromOutput>
void input_gradient_rows(InputGradientRows r) {
  using Vector = typename Lanes::Vector;
  for (int64_t row = 0; row < r.rows; ++row)
    for (int64_t c = 0; c < r.width; c += Lanes::kCount) {
      const int64_t i = row * r.width + c;
      const Vector centred = Lanes::load(r.x + i) - Lanes::load(r.mean + c);
      const Vector dz =
          through_activation<Lanes, kActivation, kFromOutput>(r, i, c, joined_gradient<Lanes>(r, i), centred);
      Lanes::store(r.dx + i,
                   Lanes::load(r.a + c) * dz + (Lanes::load(r.b + c) * centred + Lanes::load(r.d + c)));
    }
}

// Calls f with the activation, and whether its slope comes from the output, as constants.
template <class F>
void dispatch_slope(const GradientRows& r, F&& f) {
  dispatch_activation(r.activation, [&](auto kind) {
    if constexpr (kind != Activation::identity && !slope_needs_input(kind)) {
      if (r.y) return f(kind, std::true_type{});
    }
    f(kind, std::false_type{});
  });
}

template <class Lanes>
constexpr BatchNormKernels batch_norm_kernels() {
  return {int(Lanes::kCount),
          [](const NormaliseRows& r) {
            dispatch_activation(r.activation, [&](auto kind) { normalise_rows<Lanes, kind>(r); });
          },
          [](const MomentRows& r) { moment_rows<Lanes>(r); },
          [](const GradientSumRows& r) {
            dispatch_slope(r, [&](auto kind, auto output) { gradient_sum_rows<Lanes, kind, output>(r); });
          },
          [](const InputGradientRows& r) {
            dispatch_slope(r, [&](auto kind, auto output) { input_gradient_rows<Lanes, kind, output>(r); });
          }};
}

}  // namespace plume::cpu
