#include "engine/cuda/cudnn_convolution.h"

#include <optional>
#include <unordered_map>

#include "engine/cuda/handles.h"

namespace plume::cuda {
namespace {

using Key = std::array<int64_t, 19>;
struct KeyHash {
  size_t operator()(const Key& key) const {
    uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a, a word at a time
    for (const int64_t word : key) hash = (hash ^ uint64_t(word)) * 0x100000001b3u;
    return size_t(hash ^ (hash >> 32));
  }
};

// cuDNN's name for an activation; nothing for those it does not have.
std::optional<cudnnPointwiseMode_t> pointwise_mode(Activation activation) {
  switch (activation) {
    case Activation::relu:
      return CUDNN_POINTWISE_RELU_FWD;
    case Activation::sigmoid:
      return CUDNN_POINTWISE_SIGMOID_FWD;
    case Activation::silu:
      return CUDNN_POINTWISE_SWISH_FWD;  // its beta is 1 unless set
    default:
      return {};
  }
}

bool has(const Epilogue* e, Tensor Epilogue::*part) { return e && (e->*part).defined(); }

Key key_of(const Context& context, const ConvolutionProblem& p) {
  const Epilogue* e = p.epilogue;
  const int64_t parts = int64_t(has(e, &Epilogue::scale)) + 2 * int64_t(has(e, &Epilogue::shift)) +
                        4 * int64_t(has(e, &Epilogue::residual)) +
                        8 * (e ? int64_t(e->activation) : int64_t(Activation::identity));
  return {int64_t(p.pass),
          p.input[0],
          p.input[1],
          p.input[2],
          p.input[3],
          p.filter[0],
          p.filter[1],
          p.filter[2],
          p.filter[3],
          p.output[1],
          p.output[2],
          p.params.stride,
          p.params.padding,
          p.params.dilation,
          int64_t(p.type),
          int64_t(p.output_type),
          parts,
          context.deterministic,
          context.allow_tf32};
}

// The convolution's sums run through scale, residual, shift and activation; the last step writes the output.
// This order is the one that cuDNN's hand-tuned convolution + bias + activation engines recognise.
void describe_epilogue(Graph& graph, const ConvolutionProblem& p, Convolution pass) {
  const Epilogue& e = *p.epilogue;
  const Layout output = channels_last(p.output), channel = per_channel(p.output[3]);
  struct Step {
    cudnnPointwiseMode_t mode;
    int64_t operand;  // 0: none
  };
  std::vector<Step> steps;
  if (e.scale.defined()) {
    graph.tensor(kScale, channel, CUDNN_DATA_FLOAT);
    steps.push_back({CUDNN_POINTWISE_MUL, kScale});
  }
  if (e.residual.defined()) {
    graph.tensor(kResidual, output, cudnn_type(p.type));
    steps.push_back({CUDNN_POINTWISE_ADD, kResidual});
  }
  if (e.shift.defined()) {
    graph.tensor(kShift, channel, CUDNN_DATA_FLOAT);
    steps.push_back({CUDNN_POINTWISE_ADD, kShift});
  }
  if (e.activation != Activation::identity) steps.push_back({*pointwise_mode(e.activation), 0});

  int64_t value = kFirstInner;
  graph.tensor(value, output, CUDNN_DATA_FLOAT, true);
  graph.convolution(pass, p.params, kInput, kFilter, value);
  for (size_t i = 0; i < steps.size(); ++i) {
    int64_t next = kOutput;
    if (i + 1 < steps.size())
      graph.tensor(next = kFirstInner + int64_t(i) + 1, output, CUDNN_DATA_FLOAT, true);
    if (steps[i].operand)
      graph.pointwise(steps[i].mode, value, steps[i].operand, next);
    else
      graph.pointwise(steps[i].mode, value, next);
    value = next;
  }
}

std::unique_ptr<Plan> plan_for(const Context& context, const ConvolutionProblem& p) {
  const Activation last = p.epilogue ? p.epilogue->activation : Activation::identity;
  if (last != Activation::identity && !pointwise_mode(last)) return nullptr;
  const cudnnHandle_t handle = cudnn_handle(context);
  try {
    Graph graph;
    graph.tensor(kInput, channels_last(p.input), cudnn_type(p.type));
    graph.tensor(kFilter, channels_last(p.filter), cudnn_type(p.type));
    graph.tensor(kOutput, channels_last(p.output), cudnn_type(p.output_type));
    if (!p.plain())
      describe_epilogue(graph, p, p.pass);
    else
      graph.convolution(p.pass, p.params, kInput, kFilter, kOutput);
    const bool tensor_cores = p.type != DType::f32 || context.allow_tf32;
    const bool plain = p.plain() && p.output_type == p.type;
    // Compiling pays only where it saves a pass over memory that is not small beside the arithmetic.
    return make_plan(graph, handle,
                     {.deterministic = context.deterministic,
                      .tensor_cores = tensor_cores,
                      .compiled = tensor_cores && !plain});
  } catch (const Error&) {  // a description that cuDNN refuses: another variant has to do it
    return nullptr;
  }
}

std::vector<KeptPlan>& kept() {
  static auto* all = new std::vector<KeptPlan>;
  return *all;
}

std::string words(const ConvolutionProblem& p) {
  constexpr const char* kPasses[] = {"forward", "backward_input", "backward_weight"};
  std::string text = message("{} {} * {} stride {}, {}", kPasses[size_t(p.pass)], p.input, p.filter,
                             p.params.stride, name(p.type));
  if (p.output_type != p.type) text += message(" to {}", name(p.output_type));
  if (has(p.epilogue, &Epilogue::scale)) text += ", scale";
  if (has(p.epilogue, &Epilogue::residual)) text += ", residual";
  if (has(p.epilogue, &Epilogue::shift)) text += ", shift";
  if (p.epilogue && p.epilogue->activation != Activation::identity)
    text += message(", {}", name(p.epilogue->activation));
  return text;
}

}  // namespace

const Plan* find_plan(const Context& context, const ConvolutionProblem& problem) {
  static auto* plans = new std::unordered_map<Key, std::unique_ptr<Plan>, KeyHash>;
  const Key key = key_of(context, problem);
  if (const auto it = plans->find(key); it != plans->end()) return it->second.get();
  const Plan* plan = plans->emplace(key, plan_for(context, problem)).first->second.get();
  kept().push_back({words(problem), plan});
  return plan;
}

const std::vector<KeptPlan>& kept_plans() { return kept(); }

}  // namespace plume::cuda
