#include "engine/ops/ema_update.h"

#include "engine/cpu/parallel.h"

namespace plume::cpu {
namespace {

void run(Context&, std::vector<AveragedTensor>& tensors, const Tensor& weight) {
  const float w = weight.data<float>()[0];
  for (AveragedTensor& tensor : tensors) {
    float* average = tensor.average.data<float>();
    const float* value = tensor.value.data<float>();
    parallel_for(tensor.average.size(), kElementGrain, [=](int64_t begin, int64_t end) {
      PLUME_SIMD
      for (int64_t i = begin; i < end; ++i) average[i] += w * (value[i] - average[i]);
    });
  }
}

const bool registered = ema_update.add(Device::cpu, {{"loop", always, run}});

}  // namespace
}  // namespace plume::cpu
