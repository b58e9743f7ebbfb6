#include "engine/ops/softmax_cross_entropy.h"

#include "engine/autograd/tape.h"

namespace plume {

constinit KernelSlot<CrossEntropyForward> softmax_cross_entropy_forward{"softmax_cross_entropy.forward",
                                                                        costs<CallClass::loss>};
constinit KernelSlot<CrossEntropyBackward> softmax_cross_entropy_backward{"softmax_cross_entropy.backward",
                                                                          costs<CallClass::loss>};
constinit KernelSlot<MeanForward> mean_forward{"mean.forward", costs<CallClass::loss>};

namespace {

void check(const Variable& logits, const Targets& t) {
  PLUME_CHECK(logits.shape().rank() == 2, "softmax_cross_entropy: logits {} must be [N, K]", logits.shape());
  PLUME_CHECK(t.labels.defined() != t.soft.defined(),
              "softmax_cross_entropy: give labels or soft targets, not both or none");
  if (t.soft.defined()) {
    PLUME_CHECK(t.soft.shape() == logits.shape(), "softmax_cross_entropy: targets {} for logits {}",
                t.soft.shape(), logits.shape());
    return;
  }
  PLUME_CHECK(t.labels.shape() == Shape{logits.dim(0)}, "softmax_cross_entropy: labels {} for logits {}",
              t.labels.shape(), logits.shape());
  if (!is_host(t.labels.device()))
    return;  // reading them back would wait for the device; data sets check labels
  const int32_t* labels = t.labels.data<int32_t>();
  for (int64_t n = 0; n < t.labels.size(); ++n)
    PLUME_CHECK(labels[n] >= 0 && labels[n] < logits.dim(1),
                "softmax_cross_entropy: label {} of sample {} is not in 0..{}", labels[n], n,
                logits.dim(1) - 1);
}

}  // namespace

Variable softmax_cross_entropy(const Variable& logits, const Targets& targets,
                               const CrossEntropyParams& params) {
  check(logits, targets);
  const Device device = logits.device();
  Tensor loss = Tensor::empty({logits.dim(0)}, DType::f32, device);
  Tensor probabilities = Tensor::empty(logits.shape(), DType::f32, device);
  softmax_cross_entropy_forward(logits.context(), logits.value(), targets, params, loss, probabilities);
  Tensor mean = Tensor::empty({1}, DType::f32, device);
  mean_forward(logits.context(), loss, mean);
  return record("softmax_cross_entropy", mean, {logits},
                [probabilities, targets, params, dtype = logits.dtype()](const Tensor& dy, Gradients& g) {
                  Tensor dlogits = Tensor::empty(probabilities.shape(), dtype, dy.device());
                  softmax_cross_entropy_backward(context(dy.device()), probabilities, targets, params, dy,
                                                 dlogits);
                  g.add(0, dlogits);
                });
}

}  // namespace plume
