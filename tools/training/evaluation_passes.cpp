#include "tools/training/evaluation_passes.h"

#include <utility>

#include "engine/autograd/tape.h"
#include "engine/memory/staging.h"
#include "engine/ops/cast.h"
#include "engine/ops/softmax_cross_entropy.h"
#include "tools/cli/main.h"

namespace plume::tools {

EvaluationPasses::Result EvaluationPasses::forward(const Tensor& images, const Tensor& labels) {
  const NoGrad no_grad;
  const Variable logits = cast(model_(cast(Variable(images), precision_)), DType::f32);
  return {logits.value(), labels, softmax_cross_entropy(logits, {labels, {}}).value()};
}

bool EvaluationPasses::record() {
  try {
    graph_.capture(context(device_), [this] { recorded_ = forward(images_, labels_); });
    return true;
  } catch (const Error& error) {
    recordable_ = false;
    log_line(message("evaluation cannot be recorded and runs call by call: {}", error.what()));
    return false;
  }
}

void EvaluationPasses::start(const Tensor& images, const Tensor& labels) {
  const bool whole = images.dim(0) == batch_ && backend(device_).begin_capture != nullptr;
  // The first one packs filters and makes plans, which a recording must not.
  if (!whole || !warm_ || !recordable_) {
    report(forward(images.to(device_), labels.to(device_)));
    warm_ = warm_ || whole;
    return;
  }
  if (!images_.defined()) {
    images_ = Tensor::empty(images.shape(), images.dtype(), device_, "input");
    labels_ = Tensor::empty(labels.shape(), labels.dtype(), device_, "input");
  }
  images_.copy_from(images);
  labels_.copy_from(labels);
  if (!graph_.captured() && !record()) return report(forward(images_, labels_));
  graph_.replay();
  report(recorded_);
}

void EvaluationPasses::report(const Result& result) {
  if (is_host(device_)) {
    reports_.push_back({result, nullptr});
    return;
  }
  const DeviceBackend& device = backend(device_);
  void* const stream = context(device_).stream();
  const auto copied = [&](const Tensor& from) {
    Tensor host = pinned_tensor(from.shape(), from.dtype(), "metrics");
    device.copy(host.raw(), from.raw(), from.bytes(), stream);
    return host;
  };
  Result host{copied(result.logits), copied(result.labels), copied(result.loss)};
  reports_.push_back({std::move(host), device.record_event(stream)});
}

EvaluationPasses::Result EvaluationPasses::take() {
  PLUME_CHECK(unread() > 0, "evaluation: the results of all batches were read");
  Report report = std::move(reports_.front());
  reports_.pop_front();
  if (report.copied) backend(device_).await_event(report.copied.get());
  return std::move(report.result);
}

}  // namespace plume::tools
