// ema_update: exponential moving averages of many tensors at once.
//
//   average <- average + weight * (value - average)        weight = 1 - decay
#pragma once
#include <vector>

#include "engine/core/kernel_slot.h"
#include "engine/core/tensor.h"

namespace plume {

// f32, of one shape.
struct AveragedTensor {
  Tensor average, value;

  template <class Self, class F>
  static void for_each_tensor(Self& self, F&& f) {
    f(self.average);
    f(self.value);
  }
};

// weight: f32 [1] on the device, so that a recorded step may be replayed with another.
using EmaUpdate = void(Context&, std::vector<AveragedTensor>& tensors, const Tensor& weight);
extern KernelSlot<EmaUpdate> ema_update;

}  // namespace plume
