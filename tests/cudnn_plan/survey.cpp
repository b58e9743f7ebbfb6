#include "tests/cudnn_plan/survey.h"

#include <algorithm>
#include <functional>
#include <map>

#include "engine/autograd/tape.h"
#include "engine/cuda/cudnn_convolution.h"
#include "engine/ops/depthwise_conv2d.h"
#include "models/registry.h"
#include "tests/cudnn_plan/deviceless.h"
#include "tests/ops/convolution_cases.h"

namespace plume::test {
namespace {

using cuda::Convolution;

const char* kind_of(const ConvolutionCall& c) {
  if (c.depthwise && c.x[3] > 1) return "depthwise";
  return c.w.rank() == 4 && c.w[1] * c.w[2] == 1 ? "1x1" : "dense";
}

std::string class_of(const ConvolutionCall& c) {
  constexpr const char* kPasses[] = {"forward", "input gradient", "filter gradient"};
  std::string name = message("{} {}", kPasses[size_t(c.pass)], kind_of(c));
  if (c.pass == Convolution::backward_weight && c.x[3] == 3) name += " of an image";
  if (c.scale) name += " scale";
  if (c.residual) name += " residual";
  if (c.shift) name += " shift";
  if (c.activation != Activation::identity) name += message(" {}", plume::name(c.activation));
  return name;
}

// What the text of a compiled kernel depends on: not the images' size.
std::string filter_of(const ConvolutionCall& c) {
  return c.depthwise ? message("{} {} {}", c.w[0], c.w[1], c.params.stride)
                     : message("{} {} {}", c.w[1], c.w[2], c.params.stride);
}

std::string shape_of(const ConvolutionCall& c) {
  return message("{} * {} stride {} padding {} dilation {}", c.x, c.w, c.params.stride, c.params.padding,
                 c.params.dilation);
}

// Runs the call on untouched memory.
void run(const ConvolutionCall& c, DType type) {
  Context& context = plume::context(Device::cuda);
  const auto tensor = [](const Shape& s, DType t) { return Tensor::empty(s, t, Device::cuda); };
  const Shape output =
      c.depthwise ? depthwise_conv2d_shape(c.x, c.w, c.params) : conv2d_shape(c.x, c.w, c.params);
  Tensor x = tensor(c.x, type), y = tensor(output, type);
  Tensor w = tensor(c.w, c.wide_gradient ? DType::f32 : type);
  Epilogue e;
  e.activation = c.activation;
  if (c.scale) e.scale = tensor({output[3]}, DType::f32);
  if (c.shift) e.shift = tensor({output[3]}, DType::f32);
  if (c.residual) e.residual = tensor(output, type);
  if (c.pass == Convolution::forward && c.depthwise)
    depthwise_conv2d_forward(context, x, w, c.params, e, y);
  else if (c.pass == Convolution::forward)
    conv2d_forward(context, x, w, c.params, e, y);
  else if (c.pass == Convolution::backward_input && c.depthwise)
    depthwise_conv2d_backward_input(context, y, w, c.params, x);
  else if (c.pass == Convolution::backward_input)
    conv2d_backward_input(context, y, w, c.params, x);
  else if (c.depthwise)
    depthwise_conv2d_backward_weight(context, x, y, c.params, w);
  else
    conv2d_backward_weight(context, x, y, c.params, w);
}

// The plan of the whole operation is the first that is asked for, the one of its sums the second.
void ask(const ConvolutionCall& c, DType type, Answer& answer) {
  const size_t plans = cuda::kept_plans().size(), runs = executions().size();
  run(c, type);
  const bool known = cuda::kept_plans().size() == plans;  // depthwise with one channel is dense
  if (known) return;
  ++answer.shapes;
  const bool ran = executions().size() > runs;
  if (ran) {
    const Execution& last = executions().back();
    const bool hard = c.activation == Activation::hardswish || c.activation == Activation::hardsigmoid;
    const size_t operands =
        cuda::kept_plans()[plans].plan ? 3u + c.scale + c.shift + c.residual + 2 * hard : 3u;
    for (const void* pointer : last.pointers) answer.missing += pointer == nullptr;
    answer.missing += last.tensors.size() != operands || last.pointers.size() != operands;
  }
  if (const cuda::Plan* plan = cuda::kept_plans()[plans].plan) {
    ++answer.whole;
    answer.compiled += plan->compiled();
    answer.patterns.insert(plan->pattern());
    answer.workspace = std::max(answer.workspace, double(plan->workspace()) / (1 << 20));
  } else {
    ++(ran ? answer.sums : answer.refused);
    if (answer.example.empty()) answer.example = shape_of(c);
  }
}

// Of the shapes that share a compiled kernel, which `kernel_of` names, one is asked.
std::vector<Class> survey(const std::vector<ConvolutionCall>& calls,
                          const std::function<std::string(const ConvolutionCall&)>& kernel_of) {
  std::vector<Class> classes;
  std::map<std::string, size_t> place;
  std::set<std::string> asked, compiled;
  Context& context = plume::context(Device::cuda);
  for (const ConvolutionCall& c : calls) {
    const std::string name = class_of(c);
    if (!asked.insert(name + shape_of(c)).second) continue;
    const auto [it, fresh] = place.emplace(name, classes.size());
    if (fresh) classes.push_back({name, {}});
    for (size_t a = 0; a < kArithmetics.size(); ++a) {
      const std::string kernel = name + kArithmetics[a] + kernel_of(c);
      if (compiled.contains(kernel)) continue;
      Answer& answer = classes[it->second].answers[a];
      const int before = answer.compiled;
      context.allow_tf32 = Arithmetic(a) == Arithmetic::tf32;
      ask(c,
          Arithmetic(a) == Arithmetic::f16    ? DType::f16
          : Arithmetic(a) == Arithmetic::bf16 ? DType::bf16
                                              : DType::f32,
          answer);
      if (answer.compiled > before) compiled.insert(kernel);
    }
  }
  return classes;
}

void record_networks(std::vector<ConvolutionCall>& calls) {
  const Recorder recorder(calls);
  for (const char* name :
       {"resnet18", "mobilenet_v3_small", "squeezenet1_1", "efficientnet_v2_s", "shufflenet_v2_x1_0"})
    for (const bool large : {true, false}) {
      const auto model = make_model(name, {1000, large ? Stem::imagenet : Stem::cifar, 0});
      model->to(Device::cuda);
      const int64_t size = large ? 224 : 32;
      const Tensor x = Tensor::empty({large ? 32 : 64, size, size, 3}, DType::f32, Device::cuda);
      const Variable y = (*model)(Variable(x));
      backward(y, Tensor::empty(y.shape(), DType::f32, Device::cuda));
      model->eval();
      model->fuse();
      const NoGrad none;
      (*model)(Variable(x));
    }
}

}  // namespace

std::vector<Class> survey_networks() {
  std::vector<ConvolutionCall> calls;
  record_networks(calls);
  for (ConvolutionCall& c : calls) c.wide_gradient = c.pass == Convolution::backward_weight;
  return survey(calls, filter_of);
}

std::vector<Class> survey_operations() {
  std::vector<ConvolutionCall> calls;
  const auto add = [&](bool depthwise, const Shape& x, const Shape& w, const Conv2dParams& params) {
    for (const auto pass : {Convolution::backward_input, Convolution::backward_weight})
      calls.push_back({pass, depthwise, x, w, params});
    const auto forward = [&](bool scale, bool shift, bool residual, Activation activation) {
      calls.push_back({Convolution::forward, depthwise, x, w, params, scale, shift, residual, activation});
    };
    forward(false, false, false, Activation::identity);
    forward(false, true, false, Activation::identity);
    forward(true, true, true, Activation::relu);
  };
  for (const ConvCase& c : conv2d_cases()) add(false, c.x, c.w(), c.params);
  for (const DepthwiseCase& c : depthwise_cases()) add(true, c.x, c.w(), c.params);
  std::vector<Class> classes = survey(calls, [](const auto&) { return ""; });
  for (Class& c : classes) c.name += " (odd)";
  return classes;
}

}  // namespace plume::test
