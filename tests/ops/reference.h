// Naive references, in double precision: each reads like its equation. See array.h for Real and Sum.
#pragma once
#include <algorithm>

#include "engine/math/activation.h"
#include "engine/ops/batch_norm.h"
#include "engine/ops/conv2d.h"
#include "engine/ops/max_pool2d.h"
#include "engine/ops/optimizer_step.h"
#include "tests/support/array.h"

namespace plume::test::reference {

// Written out, since the exponential overflows long before its reciprocal says anything. Close to zero, where
// float's exponential ends, only the magnitude counts.
inline Real sigmoid(Real x) {
  constexpr double kEndOfRange = 1e-37 * 0x1p24;
  const double s = 1.0 / (1.0 + std::exp(-x.value));
  return {s, s * (1 - s) * x.error + (kFunctionError + 2) * s + kEndOfRange};
}
inline Real hardsigmoid(Real x) {
  const Real line = x / 6.0 + 0.5;
  return {std::clamp(line.value, 0.0, 1.0), line.error};
}
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

// ---- elementwise -------------------------------------------------------------------------------------

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

// ---- convolution and matrix product --------------------------------------------------------------------

// y = activation(accumulator * scale[k] + shift[k] + residual); undefined parts are left out.
struct EpilogueArrays {
  const Array &scale, &shift, &residual;
  Activation activation = Activation::identity;

  Real operator()(Sum sum, int64_t k, int64_t index) const {
    if (!scale.defined() && shift.defined()) sum += shift[k];  // a bias may be where the sum starts
    Real v = sum;
    if (scale.defined()) v = v * scale[k];
    if (scale.defined() && shift.defined()) v = v + shift[k];
    if (residual.defined()) v = v + residual[index];
    return activate(activation, v);
  }
};

// Calls f(n, p, q, h, w, r, s) for every pair of output and input element that the filter connects.
template <class F>
void for_each_tap(const Shape& x, const Shape& w, const Shape& y, const Conv2dParams& params, F&& f) {
  for (int64_t n = 0; n < y[0]; ++n)
    for (int64_t p = 0; p < y[1]; ++p)
      for (int64_t q = 0; q < y[2]; ++q)
        for (int64_t r = 0; r < w[1]; ++r)
          for (int64_t s = 0; s < w[2]; ++s) {
            const int64_t ih = p * params.stride - params.padding + r * params.dilation;
            const int64_t iw = q * params.stride - params.padding + s * params.dilation;
            if (ih >= 0 && ih < x[1] && iw >= 0 && iw < x[2]) f(n, p, q, ih, iw, r, s);
          }
}

inline void conv2d(const Array& x, const Array& w, const Conv2dParams& params, const EpilogueArrays& epilogue,
                   Array& y) {
  const int64_t filters = w.dim(0), channels = w.dim(3);
  std::vector<Sum> sums(size_t(y.size()));
  for_each_tap(x.shape, w.shape, y.shape, params,
               [&](auto n, auto p, auto q, auto ih, auto iw, auto r, auto s) {
                 for (int64_t k = 0; k < filters; ++k)
                   for (int64_t c = 0; c < channels; ++c)
                     sums[size_t(&y.at(n, p, q, k) - &y[0])] += x.at(n, ih, iw, c) * w.at(k, r, s, c);
               });
  for (int64_t i = 0; i < y.size(); ++i) y[i] = epilogue(sums[size_t(i)], i % filters, i);
}

inline void conv2d_backward_input(const Array& dy, const Array& w, const Conv2dParams& params, Array& dx) {
  std::vector<Sum> sums(size_t(dx.size()));
  for_each_tap(dx.shape, w.shape, dy.shape, params,
               [&](auto n, auto p, auto q, auto ih, auto iw, auto r, auto s) {
                 for (int64_t k = 0; k < w.dim(0); ++k)
                   for (int64_t c = 0; c < w.dim(3); ++c)
                     sums[size_t(&dx.at(n, ih, iw, c) - &dx[0])] += dy.at(n, p, q, k) * w.at(k, r, s, c);
               });
  for (int64_t i = 0; i < dx.size(); ++i) dx[i] = sums[size_t(i)];
}

inline void conv2d_backward_weight(const Array& x, const Array& dy, const Conv2dParams& params, Array& dw) {
  std::vector<Sum> sums(size_t(dw.size()));
  for_each_tap(x.shape, dw.shape, dy.shape, params,
               [&](auto n, auto p, auto q, auto ih, auto iw, auto r, auto s) {
                 for (int64_t k = 0; k < dw.dim(0); ++k)
                   for (int64_t c = 0; c < dw.dim(3); ++c)
                     sums[size_t(&dw.at(k, r, s, c) - &dw[0])] += dy.at(n, p, q, k) * x.at(n, ih, iw, c);
               });
  for (int64_t i = 0; i < dw.size(); ++i) dw[i] = sums[size_t(i)];
}

// w [R, S, C]: calls f(n, p, q, h, w, r, s, c) for every product of a depthwise convolution.
template <class F>
void for_each_depthwise_product(const Shape& x, const Shape& w, const Shape& y, const Conv2dParams& params,
                                F&& f) {
  for_each_tap(x, {w[2], w[0], w[1], w[2]}, y, params,
               [&](auto n, auto p, auto q, auto ih, auto iw, auto r, auto s) {
                 for (int64_t c = 0; c < w[2]; ++c) f(n, p, q, ih, iw, r, s, c);
               });
}
inline void depthwise_conv2d(const Array& x, const Array& w, const Conv2dParams& params,
                             const EpilogueArrays& epilogue, Array& y) {
  std::vector<Sum> sums(size_t(y.size()));
  for_each_depthwise_product(x.shape, w.shape, y.shape, params,
                             [&](auto n, auto p, auto q, auto ih, auto iw, auto r, auto s, auto c) {
                               sums[size_t(&y.at(n, p, q, c) - &y[0])] +=
                                   x.at(n, ih, iw, c) * w.at(r * w.dim(1) + s, c);
                             });
  for (int64_t i = 0; i < y.size(); ++i) y[i] = epilogue(sums[size_t(i)], i % w.dim(2), i);
}

// y[n, k] = epilogue(sum over c of x[n, c] w[k, c])
inline void linear(const Array& x, const Array& w, const EpilogueArrays& epilogue, Array& y) {
  for (int64_t n = 0; n < x.dim(0); ++n)
    for (int64_t k = 0; k < w.dim(0); ++k) {
      Sum sum;
      for (int64_t c = 0; c < x.dim(1); ++c) sum += x.at(n, c) * w.at(k, c);
      y.at(n, k) = epilogue(sum, k, n * w.dim(0) + k);
    }
}
inline void linear_backward_input(const Array& dy, const Array& w, Array& dx) {
  for (int64_t n = 0; n < dx.dim(0); ++n)
    for (int64_t c = 0; c < dx.dim(1); ++c) {
      Sum sum;
      for (int64_t k = 0; k < w.dim(0); ++k) sum += dy.at(n, k) * w.at(k, c);
      dx.at(n, c) = sum;
    }
}
inline void linear_backward_weight(const Array& x, const Array& dy, Array& dw) {
  for (int64_t k = 0; k < dw.dim(0); ++k)
    for (int64_t c = 0; c < dw.dim(1); ++c) {
      Sum sum;
      for (int64_t n = 0; n < x.dim(0); ++n) sum += dy.at(n, k) * x.at(n, c);
      dw.at(k, c) = sum;
    }
}

// ---- batch norm ----------------------------------------------------------------------------------------

// y = activation(gamma * (x - mean) / sqrt(var + eps) + beta + residual)
inline void normalise(const Array& x, const Array& gamma, const Array& beta, const Array& residual,
                      const Array& mean, const Array& inv_std, Activation activation, Array& y) {
  for (int64_t row = 0; row < x.rows(); ++row)
    for (int64_t c = 0; c < x.dim(-1); ++c) {
      Real v = gamma[c] * (x.at(row, c) - mean[c]) * inv_std[c] + beta[c];
      if (residual.defined()) v = v + residual.at(row, c);
      y.at(row, c) = activate(activation, v);
    }
}

struct BatchStatistics {
  Array mean, var, inv_std;  // var biased
};
inline BatchStatistics batch_statistics(const Array& x, double eps) {
  const int64_t channels = x.dim(-1);
  BatchStatistics s{Array({channels}), Array({channels}), Array({channels})};
  const double count = double(x.rows());
  for (int64_t c = 0; c < channels; ++c) {
    Sum sum, squares;
    for (int64_t row = 0; row < x.rows(); ++row) sum += x.at(row, c);
    s.mean[c] = Real(sum) / count;
    for (int64_t row = 0; row < x.rows(); ++row) {
      const Real deviation = x.at(row, c) - s.mean[c];
      squares += deviation * deviation;
    }
    s.var[c] = Real(squares) / count;
    s.inv_std[c] = 1.0 / sqrt(s.var[c] + eps);
  }
  return s;
}

inline void batch_norm_train(const Array& x, const Array& gamma, const Array& beta, const Array& residual,
                             const BatchNormParams& params, Array& y, Array& mean, Array& inv_std,
                             Array& running_mean, Array& running_var) {
  const BatchStatistics s = batch_statistics(x, double(params.eps));
  mean = s.mean;
  inv_std = s.inv_std;
  const double momentum = double(params.momentum), count = double(x.rows());
  for (int64_t c = 0; c < x.dim(-1); ++c) {
    running_mean[c] = (1 - momentum) * running_mean[c] + momentum * s.mean[c];
    running_var[c] = (1 - momentum) * running_var[c] + momentum * (s.var[c] * (count / (count - 1)));
  }
  normalise(x, gamma, beta, residual, mean, inv_std, params.activation, y);
}

inline void batch_norm_eval(const Array& x, const Array& gamma, const Array& beta, const Array& residual,
                            const Array& mean, const Array& var, const BatchNormParams& params, Array& y) {
  Array inv_std({x.dim(-1)});
  for (int64_t c = 0; c < x.dim(-1); ++c) inv_std[c] = 1.0 / sqrt(var[c] + double(params.eps));
  normalise(x, gamma, beta, residual, mean, inv_std, params.activation, y);
}

// The gradient before the activation.
inline Array batch_norm_dz(const Array& x, const Array& y, const Array& dy, const Array& gamma,
                           const Array& beta, const Array& mean, const Array& inv_std,
                           Activation activation) {
  Array dz(x.shape);
  for (int64_t row = 0; row < x.rows(); ++row)
    for (int64_t c = 0; c < x.dim(-1); ++c) {
      const Real xhat = (x.at(row, c) - mean[c]) * inv_std[c];
      dz.at(row, c) = dy.at(row, c) * (y.defined() ? slope_from_output(activation, y.at(row, c))
                                                   : slope(activation, xhat * gamma[c] + beta[c]));
    }
  return dz;
}

inline void batch_norm_backward(const Array& x, const Array& y, const Array& dy, const Array& gamma,
                                const Array& beta, const Array& mean, const Array& inv_std,
                                const BatchNormBackwardParams& params, Array& dx, Array& dresidual,
                                Array& dgamma, Array& dbeta) {
  const double count = double(x.rows());
  const Array dz = batch_norm_dz(x, y, dy, gamma, beta, mean, inv_std, params.activation);
  for (int64_t c = 0; c < x.dim(-1); ++c) {
    const auto xhat = [&](int64_t row) { return (x.at(row, c) - mean[c]) * inv_std[c]; };
    Sum sum_dz, sum_dz_xhat;
    for (int64_t row = 0; row < x.rows(); ++row) {
      sum_dz += dz.at(row, c);
      sum_dz_xhat += dz.at(row, c) * xhat(row);
    }
    dbeta[c] = sum_dz;
    dgamma[c] = sum_dz_xhat;
    for (int64_t row = 0; row < x.rows(); ++row) {
      Real d = dz.at(row, c);
      if (dresidual.defined()) dresidual.at(row, c) = d;
      if (!params.fixed_statistics) d = d - dbeta[c] / count - xhat(row) * dgamma[c] / count;
      dx.at(row, c) = gamma[c] * inv_std[c] * d;
    }
  }
}

// ---- pooling -------------------------------------------------------------------------------------------

// The first largest value of each window in row-major order; argmax is its place h * W + w.
inline void max_pool2d(const Array& x, const MaxPool2dParams& params, Array& y, Array& argmax) {
  for (int64_t n = 0; n < y.dim(0); ++n)
    for (int64_t p = 0; p < y.dim(1); ++p)
      for (int64_t q = 0; q < y.dim(2); ++q)
        for (int64_t c = 0; c < y.dim(3); ++c) {
          int64_t best = -1;
          for (int64_t r = 0; r < params.window; ++r)
            for (int64_t s = 0; s < params.window; ++s) {
              const int64_t ih = p * params.stride - params.padding + r;
              const int64_t iw = q * params.stride - params.padding + s;
              if (!x.inside(ih, iw)) continue;
              const Real v = x.at(n, ih, iw, c);
              const Real& winner = y.at(n, p, q, c);
              if (best < 0 || v > winner || (std::isnan(v.value) && !std::isnan(winner.value))) {
                best = ih * x.dim(2) + iw;
                y.at(n, p, q, c) = v;
              }
            }
          argmax.at(n, p, q, c) = double(best);
        }
}
inline void max_pool2d_backward(const Array& dy, const Array& argmax, Array& dx) {
  const int64_t width = dx.dim(2);
  std::vector<Sum> sums(size_t(dx.size()));
  for (int64_t n = 0; n < dy.dim(0); ++n)
    for (int64_t p = 0; p < dy.dim(1); ++p)
      for (int64_t q = 0; q < dy.dim(2); ++q)
        for (int64_t c = 0; c < dy.dim(3); ++c) {
          const int64_t place = int64_t(argmax.at(n, p, q, c).value);
          sums[size_t(&dx.at(n, place / width, place % width, c) - &dx[0])] += dy.at(n, p, q, c);
        }
  for (int64_t i = 0; i < dx.size(); ++i) dx[i] = sums[size_t(i)];
}

inline void global_avg_pool(const Array& x, Array& y) {
  const double area = double(x.dim(1) * x.dim(2));
  for (int64_t n = 0; n < x.dim(0); ++n)
    for (int64_t c = 0; c < x.dim(3); ++c) {
      Sum sum;
      for (int64_t ih = 0; ih < x.dim(1); ++ih)
        for (int64_t iw = 0; iw < x.dim(2); ++iw) sum += x.at(n, ih, iw, c);
      y.at(n, c) = Real(sum) / area;
    }
}
inline void global_avg_pool_backward(const Array& dy, Array& dx) {
  const double area = double(dx.dim(1) * dx.dim(2));
  for (int64_t n = 0; n < dx.dim(0); ++n)
    for (int64_t ih = 0; ih < dx.dim(1); ++ih)
      for (int64_t iw = 0; iw < dx.dim(2); ++iw)
        for (int64_t c = 0; c < dx.dim(3); ++c) dx.at(n, ih, iw, c) = dy.at(n, c) / area;
}

// ---- loss and optimiser --------------------------------------------------------------------------------

// t <- (1 - s) t + s / K, from a label or a row of soft targets.
inline Real target(const Array& labels, const Array& soft, double smoothing, int64_t n, int64_t k,
                   int64_t classes) {
  const Real t = soft.defined() ? soft.at(n, k) : Real(labels[n].value == double(k) ? 1 : 0);
  return smoothing == 0 ? t : (1 - smoothing) * t + smoothing / double(classes);
}

inline void softmax(const Array& logits, Array& probabilities) {
  for (int64_t n = 0; n < logits.dim(0); ++n) {
    Real largest = logits.at(n, 0);
    for (int64_t k = 1; k < logits.dim(1); ++k) largest = std::max(largest, logits.at(n, k));
    Sum sum;
    for (int64_t k = 0; k < logits.dim(1); ++k) sum += exp(logits.at(n, k) - largest);
    for (int64_t k = 0; k < logits.dim(1); ++k)
      probabilities.at(n, k) = exp(logits.at(n, k) - largest) / Real(sum);
  }
}

// loss[n] = -sum over k of t[n, k] log softmax(logits[n])[k]
inline void cross_entropy(const Array& logits, const Array& labels, const Array& soft, double smoothing,
                          Array& loss, Array& probabilities) {
  softmax(logits, probabilities);
  const int64_t classes = logits.dim(1);
  for (int64_t n = 0; n < logits.dim(0); ++n) {
    Real largest = logits.at(n, 0);
    for (int64_t k = 1; k < classes; ++k) largest = std::max(largest, logits.at(n, k));
    Sum sum, total;
    for (int64_t k = 0; k < classes; ++k) sum += exp(logits.at(n, k) - largest);
    for (int64_t k = 0; k < classes; ++k)
      total += target(labels, soft, smoothing, n, k, classes) * (log(sum) - (logits.at(n, k) - largest));
    loss[n] = total;
  }
}

inline void cross_entropy_backward(const Array& probabilities, const Array& labels, const Array& soft,
                                   double smoothing, const Array& dloss, Array& dlogits) {
  const int64_t samples = dlogits.dim(0), classes = dlogits.dim(1);
  for (int64_t n = 0; n < samples; ++n) {
    Sum sum_t;
    for (int64_t k = 0; k < classes; ++k) sum_t += target(labels, soft, smoothing, n, k, classes);
    for (int64_t k = 0; k < classes; ++k)
      dlogits.at(n, k) =
          (probabilities.at(n, k) * Real(sum_t) - target(labels, soft, smoothing, n, k, classes)) * dloss[0] /
          double(samples);
  }
}

// A constant that is rounded to float.
inline Real rounded_once(double v) { return {v, std::fabs(v)}; }

// What a step makes of a gradient.
inline Real transformed(const StepControl& c, Real g) {
  const Real scaled = g * double(c.gradient_factor);
  if (std::fabs(scaled.value) <= double(c.gradient_limit)) return scaled;
  return {std::copysign(double(c.gradient_limit), scaled.value), scaled.error};
}

inline void sgd_step(const SgdParams& p, double rate, double weight_decay, Real g, Real& parameter,
                     Real* velocity) {
  g = g + weight_decay * parameter;
  Real step = g;
  if (velocity) {
    *velocity = rounded_once(p.momentum) * *velocity + g;
    step = p.nesterov ? g + rounded_once(p.momentum) * *velocity : *velocity;
  }
  parameter = parameter - rate * step;
}

inline void adam_step(const AdamParams& p, const StepControl& c, double rate, double weight_decay, Real g,
                      Real& parameter, Real& mean, Real& square) {
  if (p.decoupled)
    parameter = (1.0 - Real(rate) * weight_decay) * parameter;
  else
    g = g + weight_decay * parameter;
  mean = rounded_once(p.beta1) * mean + rounded_once(1 - p.beta1) * g;
  square = rounded_once(p.beta2) * square + rounded_once(1 - p.beta2) * g * g;
  const Real root = sqrt(square) * double(c.second_correction) + rounded_once(p.epsilon);
  parameter = parameter - Real(rate) * double(c.first_correction) * mean / root;
}

inline void rmsprop_step(const RmspropParams& p, double rate, double weight_decay, Real g, Real& parameter,
                         Real* update, Real& square) {
  g = g + weight_decay * parameter;
  square = rounded_once(p.alpha) * square + rounded_once(1 - p.alpha) * g * g;
  const Real epsilon = rounded_once(p.epsilon);
  const Real root = p.tensorflow ? sqrt(square + epsilon) : sqrt(square) + epsilon;
  Real step = (p.tensorflow ? rate * g : g) / root;
  if (update) step = *update = rounded_once(p.momentum) * *update + step;
  parameter = parameter - (p.tensorflow ? step : rate * step);
}

}  // namespace plume::test::reference
