// batch_metrics: what a step of training is told of its batch, added up on the device, so that the host can
// read it late and the device need not stop:
//
//   sums += {loss * N, number of rows of `logits` whose largest value is their label's, N}
//
// Of equal values the first counts as the largest; NaN never does. The loss is a mean over N.
#pragma once
#include "engine/core/kernel_slot.h"
#include "engine/core/tensor.h"

namespace plume {

inline constexpr int64_t kBatchMetrics = 3;  // doubles; two f32 hold one

// loss f32 [1], logits [N, K], floating, labels i32 [N]; sums from batch_metrics_sums(). Without labels
// (undefined) nothing is correct.
void batch_metrics(const Tensor& loss, const Tensor& logits, const Tensor& labels, Tensor& sums);
// Room for the sums, as f32, zero.
Tensor batch_metrics_sums(Device device);

using BatchMetrics = void(Context&, const Tensor& loss, const Tensor& logits, const Tensor& labels,
                          Tensor& sums);
extern KernelSlot<BatchMetrics> batch_metrics_forward;

}  // namespace plume
