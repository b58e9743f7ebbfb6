// conv2d and depthwise_conv2d through cuDNN: one plan per shape, dtype, epilogue and setting, made at the
// first call and kept.
//
// The epilogue is fused into the convolution where cuDNN can; elsewhere the convolution leaves its f32 sums
// and epilogue_apply finishes them, so that nothing is rounded twice.
#include <optional>
#include <unordered_map>

#include "engine/core/recording.h"
#include "engine/cuda/cublaslt_matmul.h"
#include "engine/cuda/cudnn_plan.h"
#include "engine/cuda/handles.h"
#include "engine/cuda/operands.h"
#include "engine/ops/conv2d.h"
#include "engine/ops/depthwise_conv2d.h"
#include "engine/ops/epilogue.h"

namespace plume::cuda {
namespace {

// The tensors of a graph.
enum Id : int64_t { kInput = 1, kFilter, kOutput, kScale, kShift, kResidual, kFirstInner };

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

struct Problem {
  Convolution pass;
  Shape input, filter, output;  // fewer channels in the filter than in the input make groups
  DType type, output_type;      // output_type: of the forward output, which may be f32 sums
  Conv2dParams params;
  const Epilogue* epilogue;  // null: none
};

bool has(const Epilogue* e, Tensor Epilogue::*part) { return e && (e->*part).defined(); }

Key key_of(const Context& context, const Problem& p) {
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
void describe_epilogue(Graph& graph, const Problem& p, Convolution pass) {
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

std::unique_ptr<Plan> make_plan(const Context& context, const Problem& p) {
  const cudnnHandle_t handle = cudnn_handle(context);
  try {
    Graph graph;
    graph.tensor(kInput, channels_last(p.input), cudnn_type(p.type));
    graph.tensor(kFilter, channels_last(p.filter), cudnn_type(p.type));
    graph.tensor(kOutput, channels_last(p.output), cudnn_type(p.output_type));
    if (p.epilogue && !p.epilogue->empty())
      describe_epilogue(graph, p, p.pass);
    else
      graph.convolution(p.pass, p.params, kInput, kFilter, kOutput);
    const bool tensor_cores = p.type != DType::f32 || context.allow_tf32;
    const bool plain = (!p.epilogue || p.epilogue->empty()) && p.output_type == p.type;
    // Compiling pays only where it saves a pass over memory that is not small beside the arithmetic.
    return graph.plan(handle, {.deterministic = context.deterministic,
                               .tensor_cores = tensor_cores,
                               .compiled = tensor_cores && !plain});
  } catch (const Error&) {  // a description that cuDNN refuses: another variant has to do it
    return nullptr;
  }
}

// Null when cuDNN cannot do it. Plans live as long as the process, like the handle.
const Plan* find_plan(const Context& context, const Problem& problem) {
  static auto* plans = new std::unordered_map<Key, std::unique_ptr<Plan>, KeyHash>;
  const Key key = key_of(context, problem);
  if (const auto it = plans->find(key); it != plans->end()) return it->second.get();
  refuse_while_recording("make a plan");
  return plans->emplace(key, make_plan(context, problem)).first->second.get();
}

Problem forward_problem(const Tensor& x, const Tensor& w, const Conv2dParams& params, const Tensor& y,
                        DType output_type, const Epilogue* epilogue) {
  return {Convolution::forward, x.shape(), w.shape(), y.shape(), x.dtype(), output_type, params, epilogue};
}

// The whole operation in one plan.
const Plan* fused_plan(const Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& params,
                       const Epilogue& epilogue, const Tensor& y) {
  if (epilogue.activation != Activation::identity && !pointwise_mode(epilogue.activation)) return nullptr;
  return find_plan(context, forward_problem(x, w, params, y, y.dtype(), &epilogue));
}
// f32 sums alone.
const Plan* sums_plan(const Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& params,
                      const Tensor& y) {
  return find_plan(context, forward_problem(x, w, params, y, DType::f32, nullptr));
}

bool fits_forward(const Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& params,
                  const Epilogue& epilogue, Tensor& y) {
  return usable({&x, &w, &y}) && usable(epilogue) &&
         (fused_plan(context, x, w, params, epilogue, y) ||
          (!epilogue.empty() && sums_plan(context, x, w, params, y)));
}

void run_forward(Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& params,
                 const Epilogue& epilogue, Tensor& y) {
  const cudnnHandle_t handle = cudnn_handle(context);
  if (const Plan* plan = fused_plan(context, x, w, params, epilogue, y)) {
    plan->run(handle, {{kInput, x.raw()},
                       {kFilter, w.raw()},
                       {kOutput, y.raw()},
                       {kScale, epilogue.scale.raw()},
                       {kShift, epilogue.shift.raw()},
                       {kResidual, epilogue.residual.raw()}});
    return;
  }
  const Plan* plan = sums_plan(context, x, w, params, y);
  Tensor sums = y.dtype() == DType::f32 ? y : Tensor::empty(y.shape(), DType::f32, y.device(), "workspace");
  plan->run(handle, {{kInput, x.raw()}, {kFilter, w.raw()}, {kOutput, sums.raw()}});
  epilogue_apply(context, sums, epilogue, y);
}

Problem backward_problem(Convolution pass, const Tensor& x, const Tensor& w, const Conv2dParams& params,
                         const Tensor& dy) {
  return {pass, x.shape(), w.shape(), dy.shape(), dy.dtype(), dy.dtype(), params, nullptr};
}

bool fits_backward_input(const Context& context, const Tensor& dy, const Tensor& w,
                         const Conv2dParams& params, Tensor& dx) {
  return usable({&dy, &w, &dx}) &&
         find_plan(context, backward_problem(Convolution::backward_input, dx, w, params, dy));
}

void run_backward_input(Context& context, const Tensor& dy, const Tensor& w, const Conv2dParams& params,
                        Tensor& dx) {
  find_plan(context, backward_problem(Convolution::backward_input, dx, w, params, dy))
      ->run(cudnn_handle(context), {{kInput, dx.raw()}, {kFilter, w.raw()}, {kOutput, dy.raw()}});
}

bool fits_backward_weight(const Context& context, const Tensor& x, const Tensor& dy,
                          const Conv2dParams& params, Tensor& dw) {
  return usable({&x, &dy, &dw}) &&
         find_plan(context, backward_problem(Convolution::backward_weight, x, dw, params, dy));
}

void run_backward_weight(Context& context, const Tensor& x, const Tensor& dy, const Conv2dParams& params,
                         Tensor& dw) {
  find_plan(context, backward_problem(Convolution::backward_weight, x, dw, params, dy))
      ->run(cudnn_handle(context), {{kInput, x.raw()}, {kFilter, dw.raw()}, {kOutput, dy.raw()}});
}

// ---- depthwise -----------------------------------------------------------------------------------------

// Our filters [R, S, C] are cuDNN's [K, R, S, 1] with K = C, turned over: a pass of its own over the filter,
// which is small beside the images.
Shape cudnn_filter(const Shape& w) { return {w[2], w[0], w[1], 1}; }
Tensor empty_filter(const Tensor& w) {
  return Tensor::empty(cudnn_filter(w.shape()), w.dtype(), w.device(), "workspace");
}
Tensor turned_over(const Context& context, const Tensor& w) {
  Tensor filter = empty_filter(w);
  transpose(context, w.dtype(), w.dim(0) * w.dim(1), w.dim(2), w.raw(), filter.raw());
  return filter;
}
// For questions about shapes only: `w` under the shape that cuDNN will see.
Tensor outline_of(const Tensor& w) { return w.reshape(cudnn_filter(w.shape())); }

bool fits_depthwise(const Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& params,
                    const Epilogue& epilogue, Tensor& y) {
  return w.size() > 0 && fits_forward(context, x, outline_of(w), params, epilogue, y);
}
void run_depthwise(Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& params,
                   const Epilogue& epilogue, Tensor& y) {
  run_forward(context, x, turned_over(context, w), params, epilogue, y);
}

bool fits_depthwise_backward_input(const Context& context, const Tensor& dy, const Tensor& w,
                                   const Conv2dParams& params, Tensor& dx) {
  return w.size() > 0 && fits_backward_input(context, dy, outline_of(w), params, dx);
}
void run_depthwise_backward_input(Context& context, const Tensor& dy, const Tensor& w,
                                  const Conv2dParams& params, Tensor& dx) {
  run_backward_input(context, dy, turned_over(context, w), params, dx);
}

bool fits_depthwise_backward_weight(const Context& context, const Tensor& x, const Tensor& dy,
                                    const Conv2dParams& params, Tensor& dw) {
  if (dw.size() == 0) return false;
  Tensor outline = outline_of(dw);
  return fits_backward_weight(context, x, dy, params, outline);
}
void run_depthwise_backward_weight(Context& context, const Tensor& x, const Tensor& dy,
                                   const Conv2dParams& params, Tensor& dw) {
  Tensor filter = empty_filter(dw);
  run_backward_weight(context, x, dy, params, filter);
  transpose(context, dw.dtype(), dw.dim(2), dw.dim(0) * dw.dim(1), filter.raw(), dw.raw());
}

// Behind our own kernels, whose dispatch needs no such pass; --variant puts it first.
constexpr int kBehind = KernelSlotBase::kOwn - 1;

const bool registered_depthwise =
    depthwise_conv2d_forward.add(Device::cuda, {{"cudnn", fits_depthwise, run_depthwise}}, kBehind) &&
    depthwise_conv2d_backward_input.add(
        Device::cuda, {{"cudnn", fits_depthwise_backward_input, run_depthwise_backward_input}}, kBehind) &&
    depthwise_conv2d_backward_weight.add(
        Device::cuda, {{"cudnn", fits_depthwise_backward_weight, run_depthwise_backward_weight}}, kBehind);

const bool registered =
    conv2d_forward.add(Device::cuda, {{"cudnn", fits_forward, run_forward}}, KernelSlotBase::kVendor) &&
    conv2d_backward_input.add(Device::cuda, {{"cudnn", fits_backward_input, run_backward_input}},
                              KernelSlotBase::kVendor) &&
    conv2d_backward_weight.add(Device::cuda, {{"cudnn", fits_backward_weight, run_backward_weight}},
                               KernelSlotBase::kVendor);

}  // namespace
}  // namespace plume::cuda
