// Naive references of activations and of what is done value by value, in double precision: each reads like
// its equation. See array.h for Real and Sum.
#pragma once
#include <algorithm>

#include "engine/math/activation.h"
#include "tests/support/array.h"

namespace plume::test::reference {

// Written out, since the exponential overflows long before its reciprocal says anything. Close to zero, where
// float's exponential ends, only the magnitude counts. A GPU's exponential is 2^(x log2 e), whose exponent is
// rounded.
inline Real sigmoid(Real x) {
  constexpr double kEndOfRange = 1e-37 * 0x1p24;
  const double s = 1.0 / (1.0 + std::exp(-x.value)), exponent = 1.5 * std::fabs(x.value);
  return {s, s * (1 - s) * (x.error + exponent) + (kFunctionError + 2) * s + kEndOfRange};
}
inline Real hardsigmoid(Real x) {
  const Real line = x / 6.0 + 0.5;
  return {std::clamp(line.value, 0.0, 1.0), line.error};
}
inline constexpr Activation kActivations[] = {Activation::identity, Activation::relu,
                                              Activation::sigmoid,  Activation::hardsigmoid,
                                              Activation::silu,     Activation::hardswish};

inline Real activate(Activation activation, Real x) {
  switch (activation) {
    case Activation::relu:
      return {std::max(x.value, 0.0), x.error};
    case Activation::sigmoid:
      return sigmoid(x);
    case Activation::hardsigmoid:
      return hardsigmoid(x);
    case Activation::silu:
      return x * sigmoid(x);
    case Activation::hardswish:
      return x * hardsigmoid(x);
    default:
      return x;
  }
}
// Of an activation's input.
inline Real slope(Activation activation, Real x) {
  switch (activation) {
    case Activation::relu:
      return x.value > 0 ? 1 : 0;
    case Activation::sigmoid:
      return sigmoid(x) * (1.0 - sigmoid(x));
    case Activation::hardsigmoid:
      return std::fabs(x.value) < 3 ? Real(1) / 6.0 : 0;
    case Activation::silu:
      return sigmoid(x) * (1.0 + x * (1.0 - sigmoid(x)));
    case Activation::hardswish:
      return x.value < -3 ? Real(0) : x.value <= 3 ? x / 3.0 + 0.5 : Real(1);
    default:
      return 1;
  }
}
// Of its output, for those that can be inverted that far.
inline Real slope_from_output(Activation activation, Real y) {
  switch (activation) {
    case Activation::relu:
      return y.value > 0 ? 1 : 0;
    case Activation::hardsigmoid:
      return y.value > 0 && y.value < 1 ? Real(1) / 6.0 : 0;
    default:
      return 1;
  }
}

inline void relu(const Array& x, Array& y) {
  for (int64_t i = 0; i < x.size(); ++i) y[i] = activate(Activation::relu, x[i]);
}
inline void relu_backward(const Array& y, const Array& dy, Array& dx) {
  for (int64_t i = 0; i < y.size(); ++i) dx[i] = y[i].value > 0 ? dy[i] : 0;
}

inline void activation(const Array& x, Activation kind, Array& y) {
  for (int64_t i = 0; i < x.size(); ++i) y[i] = activate(kind, x[i]);
}
inline void activation_backward(const Array& x, const Array& dy, Activation kind, Array& dx) {
  for (int64_t i = 0; i < x.size(); ++i) dx[i] = dy[i] * slope(kind, x[i]);
}

inline void add(const Array& a, const Array& b, Array& y) {
  for (int64_t i = 0; i < a.size(); ++i) y[i] = a[i] + b[i];
}

inline void copy(const Array& x, Array& y) { y.values = x.values; }

inline void sum_rows(const Array& x, Array& out) {
  for (int64_t c = 0; c < x.dim(-1); ++c) {
    Sum sum;
    for (int64_t row = 0; row < x.rows(); ++row) sum += x.at(row, c);
    out[c] = sum;
  }
}

inline void mean(const Array& x, Array& out) {
  Sum sum;
  for (const Real& v : x.values) sum += v;
  out[0] = Real(sum) / double(x.size());
}

}  // namespace plume::test::reference
