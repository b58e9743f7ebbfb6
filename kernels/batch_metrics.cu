// batch_metrics: one block, a warp per row of logits in turn. A lane keeps the largest of its columns and
// where it was; the warp then compares, the lower column winning a tie.
//
// Bytes: reads the logits once. With a batch's few hundred rows the bound is the launch.
#include "engine/ops/batch_metrics.h"

#include "kernels/common/kernel.h"
#include "kernels/common/warp_reduce.h"

namespace plume::PLUME_KERNELS {
namespace {

constexpr int kMetricsThreads = 512, kMetricsWarps = kMetricsThreads / kWarpSize;

template <class T>
__global__ void __launch_bounds__(kMetricsThreads)
    metrics_of_batch(const float* __restrict__ loss, const T* __restrict__ logits,
                     const int32_t* __restrict__ labels, int64_t rows, int classes, double* sums) {
  const int lane = int(threadIdx.x) % kWarpSize;
  int correct = 0;
  for (int64_t n = labels ? int64_t(threadIdx.x) / kWarpSize : rows; n < rows; n += kMetricsWarps) {
    const T* const row = logits + n * classes;
    float largest = -INFINITY;
    int place = classes;
    for (int k = lane; k < classes; k += kWarpSize)
      if (const float v = float(row[k]); v > largest) largest = v, place = k;
#pragma unroll
    for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
      const float other = __shfl_xor_sync(kFullWarp, largest, offset);
      const int where = __shfl_xor_sync(kFullWarp, place, offset);
      if (other > largest || (other == largest && where < place)) largest = other, place = where;
    }
    if (lane == 0) correct += place == labels[n];
  }
  correct = block_sum<kMetricsThreads>(correct);
  if (threadIdx.x > 0) return;
  sums[0] += double(*loss) * double(rows);
  sums[1] += double(correct);
  sums[2] += double(rows);
}

void run(Context& context, const Tensor& loss, const Tensor& logits, const Tensor& labels, Tensor& sums) {
  dispatch_floating(logits.dtype(), [&](auto zero) {
    using T = decltype(zero);
    simt::launch<metrics_of_batch<T>>({dim3(1), dim3(kMetricsThreads), 0, stream_of(context)},
                                      loss.data<float>(), logits.data<T>(),
                                      labels.defined() ? labels.data<int32_t>() : nullptr, logits.dim(0),
                                      int(logits.dim(1)), static_cast<double*>(sums.raw()));
  });
}

const bool batch_metrics_registered = batch_metrics_forward.add(kThisDevice, {{"one_block", always, run}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
