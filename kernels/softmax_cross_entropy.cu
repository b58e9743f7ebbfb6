// softmax_cross_entropy: one warp per sample, eight samples per block; lane l takes the classes l, l + 32,
// ... Three sweeps over a row of logits (largest, sum of exponentials, probabilities and loss), of which the
// last two read the cache. mean: one block, double sums, since one number decides about a whole step.
//
// Bytes: forward reads the logits (and soft targets) and writes f32 probabilities; backward reads the
// probabilities and targets and writes dlogits. About 10 FLOPs and one exponential per value: the bound is
// memory bandwidth, for ten classes the launch.
#include "engine/ops/softmax_cross_entropy.h"

#include "kernels/common/kernel.h"
#include "kernels/common/warp_reduce.h"

namespace plume::PLUME_KERNELS {
namespace {

constexpr int kSamplesPerBlock = 8;
constexpr int kMeanThreads = 256;

// The smoothed target distribution.
struct TargetView {
  const int* labels;  // null with soft targets
  const float* soft;
  float keep, uniform;  // 1 - s and s / K

  TargetView(const Targets& targets, const CrossEntropyParams& params, int64_t classes)
      : labels(targets.labels.defined() ? targets.labels.data<int32_t>() : nullptr),
        soft(targets.soft.defined() ? targets.soft.data<float>() : nullptr),
        keep(1.0f - params.label_smoothing),
        uniform(params.label_smoothing / float(classes)) {}

  __device__ float at(int64_t sample, int k, int classes) const {
    const float t = soft ? soft[sample * classes + k] : labels[sample] == k ? 1.0f : 0.0f;
    return keep * t + uniform;
  }
};

template <class T>
__global__ void __launch_bounds__(kSamplesPerBlock* kWarpSize)
    cross_entropy_forward_warp(const T* __restrict__ logits, TargetView targets, int64_t samples, int classes,
                               float* __restrict__ loss, float* __restrict__ probabilities) {
  const int64_t sample = int64_t(blockIdx.x) * kSamplesPerBlock + threadIdx.y;
  if (sample >= samples) return;  // whole warps leave
  const int lane = int(threadIdx.x);
  const T* z = logits + sample * classes;
  float* p = probabilities + sample * classes;

  float largest = -INFINITY;
  for (int k = lane; k < classes; k += kWarpSize) largest = fmaxf(largest, float(z[k]));
  largest = warp_max(largest);

  float sum = 0.0f;
  for (int k = lane; k < classes; k += kWarpSize) sum += expf(float(z[k]) - largest);
  sum = warp_sum(sum);

  const float log_sum = logf(sum), scale = 1.0f / sum;
  float total = 0.0f;
  for (int k = lane; k < classes; k += kWarpSize) {
    const float shifted = float(z[k]) - largest;
    p[k] = expf(shifted) * scale;
    // A class that cannot be the target adds nothing, however small its probability.
    const float t = targets.at(sample, k, classes);
    if (t != 0.0f) total -= t * (shifted - log_sum);
  }
  total = warp_sum(total);
  if (lane == 0) loss[sample] = total;
}

template <class T>
__global__ void __launch_bounds__(kSamplesPerBlock* kWarpSize)
    cross_entropy_backward_warp(const float* __restrict__ probabilities, TargetView targets, int64_t samples,
                                int classes, const float* __restrict__ dloss, T* __restrict__ dlogits) {
  const int64_t sample = int64_t(blockIdx.x) * kSamplesPerBlock + threadIdx.y;
  if (sample >= samples) return;
  const int lane = int(threadIdx.x);
  const float* p = probabilities + sample * classes;
  const float scale = dloss[0] / float(samples);
  float mass = 0.0f;  // 1 for a label; soft targets need not add up to it
  for (int k = lane; k < classes; k += kWarpSize) mass += targets.at(sample, k, classes);
  mass = warp_sum(mass);
  for (int k = lane; k < classes; k += kWarpSize)
    dlogits[sample * classes + k] = T((p[k] * mass - targets.at(sample, k, classes)) * scale);
}

__global__ void __launch_bounds__(kMeanThreads)
    mean_block(const float* __restrict__ x, int64_t n, float* __restrict__ out) {
  double sum = 0.0;
  for (int64_t i = threadIdx.x; i < n; i += kMeanThreads) sum += double(x[i]);
  sum = block_sum<kMeanThreads>(sum);
  if (threadIdx.x == 0) out[0] = float(sum / double(n));
}

simt::Launch warp_per_sample(const Context& context, int64_t samples) {
  return {dim3(unsigned(ceil_div(samples, kSamplesPerBlock))), dim3(kWarpSize, kSamplesPerBlock), 0,
          stream_of(context)};
}

void run_cross_entropy_forward(Context& context, const Tensor& logits, const Targets& targets,
                               const CrossEntropyParams& params, Tensor& loss, Tensor& probabilities) {
  if (logits.size() == 0) return;
  const int64_t samples = logits.dim(0), classes = logits.dim(1);
  dispatch_floating(logits.dtype(), [&](auto zero) {
    using T = decltype(zero);
    simt::launch<cross_entropy_forward_warp<T>>(warp_per_sample(context, samples), logits.data<T>(),
                                                TargetView(targets, params, classes), samples, int(classes),
                                                loss.data<float>(), probabilities.data<float>());
  });
}

void run_cross_entropy_backward(Context& context, const Tensor& probabilities, const Targets& targets,
                                const CrossEntropyParams& params, const Tensor& dloss, Tensor& dlogits) {
  if (dlogits.size() == 0) return;
  const int64_t samples = dlogits.dim(0), classes = dlogits.dim(1);
  dispatch_floating(dlogits.dtype(), [&](auto zero) {
    using T = decltype(zero);
    simt::launch<cross_entropy_backward_warp<T>>(
        warp_per_sample(context, samples), probabilities.data<float>(), TargetView(targets, params, classes),
        samples, int(classes), dloss.data<float>(), dlogits.data<T>());
  });
}

void run_mean(Context& context, const Tensor& x, Tensor& out) {
  simt::launch<mean_block>({dim3(1), dim3(kMeanThreads), 0, stream_of(context)}, x.data<float>(), x.size(),
                           out.data<float>());
}

const bool softmax_cross_entropy_registered =
    softmax_cross_entropy_forward.add(kThisDevice,
                                      {{"warp_per_sample", always, run_cross_entropy_forward}}) &&
    softmax_cross_entropy_backward.add(kThisDevice,
                                       {{"warp_per_sample", always, run_cross_entropy_backward}}) &&
    mean_forward.add(kThisDevice, {{"one_block", always, run_mean}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
