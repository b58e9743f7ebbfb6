#include "engine/cuda/cudnn_convolution.h"

#include <unordered_map>

#include "engine/core/notes.h"
#include "engine/core/recording.h"
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

bool has(const Epilogue* e, Tensor Epilogue::*part) { return e && (e->*part).defined(); }

Key key_of(const Context& context, const ConvolutionProblem& p) {
  const Epilogue* e = p.epilogue;
  const int64_t parts = int64_t(has(e, &Epilogue::scale)) + 2 * int64_t(has(e, &Epilogue::shift)) +
                        4 * int64_t(has(e, &Epilogue::residual)) + 8 * int64_t(e && e->adds_last()) +
                        16 * (e ? int64_t(e->activation) : int64_t(Activation::identity));
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
          int64_t(p.result_type),
          parts,
          context.deterministic,
          context.allow_tf32};
}

// What is done, without the sizes, for people.
std::string family_of(const ConvolutionProblem& p) {
  constexpr const char* kPasses[] = {"forward", "backward_input", "backward_weight"};
  std::string text = message("conv2d.{} {}x{} stride {} {}", kPasses[size_t(p.pass)], p.filter[1],
                             p.filter[2], p.params.stride, name(p.type));
  if (p.filter[3] < p.input[3]) text += " depthwise";
  if (p.result_type != p.type) text += message(" to {}", name(p.result_type));
  if (has(p.epilogue, &Epilogue::scale)) text += ", scale";
  const bool last = p.epilogue && p.epilogue->adds_last();
  if (has(p.epilogue, &Epilogue::residual) && !last) text += ", residual";
  if (has(p.epilogue, &Epilogue::shift)) text += ", shift";
  if (p.epilogue && p.epilogue->activation != Activation::identity)
    text += message(", {}", name(p.epilogue->activation));
  if (last) text += ", residual";
  return text;
}

std::string words(const ConvolutionProblem& p) {
  return message("{}: {} * {}", family_of(p), p.input, p.filter);
}

// The operations behind the convolution, each of which takes the value of the one before.
class Chain {
 public:
  Chain(Graph& graph, const ConvolutionProblem& problem)
      : graph_(graph), output_(channels_last(problem.output)), value_(inner()) {
    graph.convolution(problem.pass, problem.params, kInput, kFilter, value_);
  }

  void add(cudnnPointwiseMode_t mode, ConvolutionTensor operand, const Layout& layout, DType type,
           bool last) {
    graph_.tensor(operand, layout, cudnn_type(type));
    const int64_t next = last ? kOutput : inner();
    graph_.pointwise(mode, value_, operand, next);
    value_ = next;
  }

  void activate(Activation activation, bool last) {
    if (activation == Activation::identity) return;
    const int64_t next = last ? kOutput : inner();
    activate_to(activation, next);
    value_ = next;
  }

 private:
  void activate_to(Activation activation, int64_t result) {
    switch (activation) {
      case Activation::identity:
        return;
      case Activation::relu:
        return graph_.pointwise(CUDNN_POINTWISE_RELU_FWD, value_, result);
      case Activation::sigmoid:
        return graph_.pointwise(CUDNN_POINTWISE_SIGMOID_FWD, value_, result);
      case Activation::silu:
        return graph_.pointwise(CUDNN_POINTWISE_SWISH_FWD, value_, result);  // its beta is 1 unless set
      case Activation::hardsigmoid:
        return gate(result);
      case Activation::hardswish: {
        const int64_t gated = inner();
        gate(gated);
        return graph_.pointwise(CUDNN_POINTWISE_MUL, value_, gated, result);
      }
    }
  }
  // min(max(v + 3, 0), 6) / 6
  void gate(int64_t result) {
    graph_.number(kThree);
    graph_.number(kSixth);
    const int64_t moved = inner(), clipped = inner();
    graph_.pointwise(CUDNN_POINTWISE_ADD, value_, kThree, moved);
    graph_.clipped_relu(6, moved, clipped);
    graph_.pointwise(CUDNN_POINTWISE_MUL, clipped, kSixth, result);
  }
  int64_t inner() {
    const int64_t id = kFirstInner + inners_++;
    graph_.tensor(id, output_, CUDNN_DATA_FLOAT, true);
    return id;
  }

  Graph& graph_;
  Layout output_;
  int64_t inners_ = 0, value_;
};

// The convolution's sums run through scale, residual, shift and activation; the last step writes the output.
// This order is the one that cuDNN's hand-tuned convolution + bias + activation engines recognise. A residual
// behind the activation is a step more.
void describe_epilogue(Graph& graph, const ConvolutionProblem& p) {
  const Epilogue& e = *p.epilogue;
  const Layout output = channels_last(p.output), channel = per_channel(p.output[3]);
  Chain chain(graph, p);
  const bool ends = e.activation == Activation::identity, shift = e.shift.defined();
  const bool adds_first = e.residual.defined() && !e.adds_last();
  if (e.scale.defined())
    chain.add(CUDNN_POINTWISE_MUL, kScale, channel, DType::f32, ends && !shift && !adds_first);
  if (adds_first) chain.add(CUDNN_POINTWISE_ADD, kResidual, output, p.type, ends && !shift);
  if (shift) chain.add(CUDNN_POINTWISE_ADD, kShift, channel, p.type, ends);
  chain.activate(e.activation, !e.adds_last());
  if (e.adds_last()) chain.add(CUDNN_POINTWISE_ADD, kResidual, output, p.type, true);
}

PlanRules rules_for(const Context& context, const ConvolutionProblem& p) {
  const bool depthwise = p.filter[3] < p.input[3];
  const bool tensor_cores = p.type != DType::f32 || context.allow_tf32;
  const bool plain = p.plain() && p.result_type == p.type;
  // cuDNN's own depthwise kernels are compiled ones. Elsewhere compiling pays only where it saves a pass over
  // memory that is not small beside the arithmetic, and all that is compiled runs on tensor cores.
  const Compiling compiling = depthwise && plain                      ? Compiling::first
                              : !plain && (depthwise || tensor_cores) ? Compiling::where_nothing_else_fits
                                                                      : Compiling::never;
  return {context.deterministic, tensor_cores, compiling};
}

// Has cuDNN only compiled kernels for it? Those that it brings along add a residual and a shift and then end
// with a relu or sigmoid.
bool must_be_compiled(const ConvolutionProblem& p) {
  if (p.plain()) return false;
  const Activation last = p.epilogue->activation;
  return p.epilogue->scale.defined() || p.epilogue->adds_last() ||
         (last != Activation::identity && last != Activation::relu && last != Activation::sigmoid);
}

Planned plan_for(const Context& context, const ConvolutionProblem& p) {
  const PlanRules rules = rules_for(context, p);
  if (rules.compiling == Compiling::never && must_be_compiled(p))
    return {nullptr, "its only kernels for this use tensor cores, which exact f32 may not"};
  Graph graph;
  graph.tensor(kInput, channels_last(p.input), cudnn_type(p.type));
  const auto type_of = [&](Convolution computed_by) {
    return cudnn_type(p.pass == computed_by ? p.result_type : p.type);
  };
  graph.tensor(kFilter, channels_last(p.filter), type_of(Convolution::backward_weight));
  graph.tensor(kOutput, channels_last(p.output), type_of(Convolution::forward));
  if (!p.plain()) {
    describe_epilogue(graph, p);
  } else if (p.pass == Convolution::backward_weight && p.result_type != p.type) {
    // No engine takes such a gradient alone, only with an operation behind it.
    graph.tensor(kFirstInner, channels_last(p.filter), CUDNN_DATA_FLOAT, true);
    graph.convolution(p.pass, p.params, kInput, kFirstInner, kOutput);
    graph.pointwise(CUDNN_POINTWISE_IDENTITY, kFirstInner, kFilter);
  } else {
    graph.convolution(p.pass, p.params, kInput, kFilter, kOutput);
  }
  const std::string family =
      message("{}, padding {}, dilation {}", family_of(p), p.params.padding, p.params.dilation);
  return make_plan(graph, context, rules, family);
}

std::vector<KeptPlan>& kept() {
  static auto* all = new std::vector<KeptPlan>;
  return *all;
}

}  // namespace

Plan* find_plan(const Context& context, const ConvolutionProblem& problem) {
  static auto* plans = new std::unordered_map<Key, std::unique_ptr<Plan>, KeyHash>;
  const Key key = key_of(context, problem);
  if (const auto it = plans->find(key); it != plans->end()) return it->second.get();
  refuse_while_recording("make a plan: run it once before");
  Planned planned = plan_for(context, problem);
  Plan* plan = plans->emplace(key, std::move(planned.plan)).first->second.get();
  if (!plan) note(message("cuDNN has no plan for {}: {}", family_of(problem), planned.refusal));
  kept().push_back({words(problem), plan, planned.refusal});
  return plan;
}

const std::vector<KeptPlan>& kept_plans() { return kept(); }

}  // namespace plume::cuda
