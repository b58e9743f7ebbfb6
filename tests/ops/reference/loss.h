// Naive references of softmax and cross-entropy, in double precision.
#pragma once
#include <algorithm>

#include "tests/support/array.h"

namespace plume::test::reference {

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

}  // namespace plume::test::reference
