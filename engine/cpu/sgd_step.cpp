#include "engine/ops/sgd_step.h"

#include "engine/cpu/parallel.h"

namespace plume::cpu {
namespace {

void update(SgdTensor& tensor, const SgdParams& params) {
  float* parameter = tensor.parameter.data<float>();
  const float* gradient = tensor.gradient.data<float>();
  float* velocity = tensor.velocity.defined() ? tensor.velocity.data<float>() : nullptr;
  const float rate = params.learning_rate, momentum = params.momentum, decay = tensor.weight_decay;
  // Nesterov's look-ahead g + momentum * v, or v alone, as one formula without a branch in the loop.
  const float of_gradient = params.nesterov ? 1.0f : 0.0f, of_velocity = params.nesterov ? momentum : 1.0f;
  parallel_for(tensor.parameter.size(), kElementGrain, [=](int64_t begin, int64_t end) {
    if (!velocity) {
      for (int64_t i = begin; i < end; ++i) parameter[i] -= rate * (gradient[i] + decay * parameter[i]);
      return;
    }
    PLUME_SIMD
    for (int64_t i = begin; i < end; ++i) {
      const float g = gradient[i] + decay * parameter[i];
      const float v = momentum * velocity[i] + g;
      velocity[i] = v;
      parameter[i] -= rate * (of_gradient * g + of_velocity * v);
    }
  });
}

void run(Context&, std::vector<SgdTensor>& tensors, const SgdParams& params) {
  for (SgdTensor& tensor : tensors) update(tensor, params);
}

const bool registered = sgd_step.add(Device::cpu, {{"loop", always, run}});

}  // namespace
}  // namespace plume::cpu
