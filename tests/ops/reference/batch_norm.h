// Naive references of batch norm, in double precision.
#pragma once
#include "engine/ops/batch_norm.h"
#include "tests/ops/reference/elementwise.h"

namespace plume::test::reference {

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

}  // namespace plume::test::reference
