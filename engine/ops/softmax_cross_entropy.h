// softmax_cross_entropy: mean over the batch of  -sum_k t[n, k] log softmax(logits[n])[k].
//
// The target t is either a class index per sample or a distribution; smoothing s mixes in the uniform
// distribution:
//   t <- (1 - s) t + s / K. Logits any floating dtype [N, K]; arithmetic, loss and saved probabilities f32.
#pragma once
#include "engine/autograd/variable.h"
#include "engine/core/kernel_slot.h"

namespace plume {

// Exactly one is defined: labels i32 [N] in 0..K-1 (checked on host devices), or soft f32 [N, K].
struct Targets {
  Tensor labels;
  Tensor soft;

  template <class Self, class F>
  static void for_each_tensor(Self& self, F&& f) {
    f(self.labels);
    f(self.soft);
  }
};

struct CrossEntropyParams {
  float label_smoothing = 0.0f;
};

// f32 [1]: the mean loss.
Variable softmax_cross_entropy(const Variable& logits, const Targets& targets,
                               const CrossEntropyParams& params = {});

// loss f32 [N], one value per sample; probabilities f32 [N, K].
using CrossEntropyForward = void(Context&, const Tensor& logits, const Targets&, const CrossEntropyParams&,
                                 Tensor& loss, Tensor& probabilities);
// dlogits = (probabilities * sum_k t - t) * dloss[0] / N, in the dtype of the logits. dloss f32 [1], on the
// device.
using CrossEntropyBackward = void(Context&, const Tensor& probabilities, const Targets&,
                                  const CrossEntropyParams&, const Tensor& dloss, Tensor& dlogits);
// out f32 [1] = mean of x f32 [N], summed in a fixed order.
using MeanForward = void(Context&, const Tensor& x, Tensor& out);
extern KernelSlot<CrossEntropyForward> softmax_cross_entropy_forward;
extern KernelSlot<CrossEntropyBackward> softmax_cross_entropy_backward;
extern KernelSlot<MeanForward> mean_forward;

}  // namespace plume
