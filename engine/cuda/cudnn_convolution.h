// Convolutions for cuDNN: what tells two of them apart, and the plans made for them.
#pragma once
#include <string>
#include <vector>

#include "engine/core/context.h"
#include "engine/cuda/cudnn_plan.h"
#include "engine/math/epilogue.h"

namespace plume::cuda {

// The tensors of a convolution's graph.
enum ConvolutionTensor : int64_t {
  kInput = 1,
  kFilter,
  kOutput,
  kScale,  // f32
  kShift,  // of the images' type, or cuDNN's own convolution + bias + activation engines do not take it
  kResidual,
  kThree,  // two numbers, for hardswish and hardsigmoid
  kSixth,
  kFirstInner
};

struct ConvolutionProblem {
  Convolution pass;
  Shape input, filter, output;  // fewer channels in the filter than in the input make groups
  DType type, result_type;  // of the operands, and of what is computed: f32 sums, f32 gradients of a filter
  Conv2dParams params;
  const Epilogue* epilogue;  // null: none. Only which parts there are counts.

  bool plain() const { return !epilogue || epilogue->empty(); }
};

// Made at the first call and kept, like the handle, as long as the process. Null when cuDNN cannot do it:
// then the reason is noted (engine/core/notes.h). Throws when the library or the driver fails. Called, like
// all of a device's operations, by one thread at a time.
Plan* find_plan(const Context& context, const ConvolutionProblem& problem);

// What find_plan made so far, in order.
struct KeptPlan {
  std::string problem;  // "conv2d.forward 3x3 stride 1 f16, shift, relu: [...] * [...]"
  const Plan* plan;     // null when cuDNN cannot do it,
  std::string refusal;  // for this reason
};
const std::vector<KeptPlan>& kept_plans();

}  // namespace plume::cuda
