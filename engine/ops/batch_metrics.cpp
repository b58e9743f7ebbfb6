#include "engine/ops/batch_metrics.h"

#include "engine/core/context.h"

namespace plume {

constinit KernelSlot<BatchMetrics> batch_metrics_forward{"batch_metrics", costs<CallClass::loss>};

void batch_metrics(const Tensor& loss, const Tensor& logits, const Tensor& labels, Tensor& sums) {
  PLUME_CHECK(loss.size() == 1 && loss.dtype() == DType::f32, "batch_metrics: the loss is {}", loss);
  PLUME_CHECK(logits.rank() == 2 && is_floating(logits.dtype()), "batch_metrics: the logits are {}", logits);
  PLUME_CHECK(!labels.defined() || (labels.dtype() == DType::i32 && labels.size() == logits.dim(0)),
              "batch_metrics: logits {} need i32 labels [{}], got {}", logits.shape(), logits.dim(0), labels);
  PLUME_CHECK(sums.dtype() == DType::f32 && sums.size() == 2 * kBatchMetrics, "batch_metrics: sums are {}",
              sums);
  batch_metrics_forward(context(logits.device()), loss, logits, labels, sums);
}

Tensor batch_metrics_sums(Device device) {
  return Tensor::zeros({2 * kBatchMetrics}, DType::f32, device, "metrics");
}

}  // namespace plume
