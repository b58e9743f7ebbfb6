#include "engine/ops/softmax_cross_entropy.h"

#include <cmath>

#include "engine/cpu/parallel.h"

namespace plume::cpu {
namespace {

// The smoothed target distribution of one sample.
struct TargetRow {
  const float* soft;  // null for a class index
  int32_t label;
  float keep, uniform;  // 1 - s and s / K

  TargetRow(const Targets& targets, const CrossEntropyParams& params, int64_t n, int64_t classes)
      : soft(targets.soft.defined() ? targets.soft.data<float>() + n * classes : nullptr),
        label(soft ? -1 : targets.labels.data<int32_t>()[n]),
        keep(1.0f - params.label_smoothing),
        uniform(params.label_smoothing / float(classes)) {}

  float operator()(int64_t k) const { return keep * (soft ? soft[k] : k == label ? 1.0f : 0.0f) + uniform; }
};

void run_forward(Context&, const Tensor& logits, const Targets& targets, const CrossEntropyParams& params,
                 Tensor& loss, Tensor& probabilities) {
  const int64_t classes = logits.dim(1);
  if (logits.size() == 0) return;
  float* losses = loss.data<float>();
  float* saved = probabilities.data<float>();
  dispatch_floating(logits.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* in = logits.data<T>();
    parallel_for(logits.dim(0), row_grain(16 * classes), [&, in](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        const TargetRow target(targets, params, n, classes);
        const T* z = in + n * classes;
        float* p = saved + n * classes;
        float largest = float(z[0]);
        for (int64_t k = 1; k < classes; ++k) largest = std::max(largest, float(z[k]));
        double sum = 0.0;
        for (int64_t k = 0; k < classes; ++k) {
          p[k] = std::exp(float(z[k]) - largest);
          sum += double(p[k]);
        }
        const double log_sum = std::log(sum);
        const float scale = float(1.0 / sum);
        double total = 0.0;
        for (int64_t k = 0; k < classes; ++k) {
          p[k] *= scale;
          // A class that cannot be the target adds nothing, however small its probability.
          const float t = target(k);
          if (t != 0.0f) total -= double(t) * (double(float(z[k]) - largest) - log_sum);
        }
        losses[n] = float(total);
      }
    });
  });
}

void run_backward(Context&, const Tensor& probabilities, const Targets& targets,
                  const CrossEntropyParams& params, const Tensor& dloss, Tensor& dlogits) {
  const int64_t samples = probabilities.dim(0), classes = probabilities.dim(1);
  if (probabilities.size() == 0) return;
  const float scale = dloss.data<float>()[0] / float(samples);
  const float* saved = probabilities.data<float>();
  dispatch_floating(dlogits.dtype(), [&](auto zero) {
    using T = decltype(zero);
    T* out = dlogits.data<T>();
    parallel_for(samples, row_grain(classes), [&, out](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        const TargetRow target(targets, params, n, classes);
        double mass = 0.0;
        for (int64_t k = 0; k < classes; ++k) mass += double(target(k));
        const float* p = saved + n * classes;
        for (int64_t k = 0; k < classes; ++k)
          out[n * classes + k] = T((p[k] * float(mass) - target(k)) * scale);
      }
    });
  });
}

void run_mean(Context&, const Tensor& x, Tensor& out) {
  const float* values = x.data<float>();
  double sum = 0.0;
  for (int64_t i = 0; i < x.size(); ++i) sum += double(values[i]);
  out.data<float>()[0] = float(sum / double(x.size()));
}

const bool registered = softmax_cross_entropy_forward.add(Device::cpu, {{"loop", always, run_forward}}) &&
                        softmax_cross_entropy_backward.add(Device::cpu, {{"loop", always, run_backward}}) &&
                        mean_forward.add(Device::cpu, {{"loop", always, run_mean}});

}  // namespace
}  // namespace plume::cpu
