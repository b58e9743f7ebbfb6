#include "engine/modules/layers.h"

#include <cmath>

#include "engine/modules/blocks.h"
#include "engine/ops/activation.h"
#include "engine/ops/batch_norm_conv.h"
#include "engine/ops/batch_norm_max_pool.h"
#include "engine/ops/cast.h"
#include "engine/ops/conv2d_max_pool.h"
#include "engine/ops/conv_batch_norm.h"
#include "engine/ops/depthwise_conv2d.h"
#include "engine/ops/first_layer.h"
#include "engine/ops/global_avg_pool.h"
#include "engine/ops/linear.h"
#include "engine/ops/pooled_linear.h"
#include "engine/ops/stochastic_depth.h"
#include "engine/ops/sync_batch_norm.h"

namespace plume {
namespace {

Variable parameter(const Shape& shape) {
  Tensor value = Tensor::zeros(shape, DType::f32, Device::cpu, "parameter");
  value.count_writes();
  return Variable(value, true);
}

template <class F>
void fill(Tensor& tensor, F&& next) {
  std::vector<float> values(size_t(tensor.size()));
  for (float& v : values) v = next();
  tensor.copy_from(Tensor::from(values, tensor.shape()));
}

void fill_weight(Tensor& weight, Variable& bias, Init init, double fan_in, double fan_out,
                 RandomSequence& random) {
  const auto normal = [&](double deviation) {
    fill(weight, [&] { return random.normal() * float(deviation); });
  };
  const auto uniform = [&](double bound) {
    fill(weight, [&] { return random.uniform(-float(bound), float(bound)); });
  };
  switch (init) {
    case Init::fan_out_normal:
      normal(std::sqrt(2.0 / fan_out));
      break;
    case Init::fan_in_uniform:
      uniform(std::sqrt(6.0 / fan_in));
      break;
    case Init::small_normal:
      normal(0.01);
      break;
    case Init::fan_out_uniform:
      uniform(1.0 / std::sqrt(fan_out));
      break;
    case Init::fan_in_default:
      uniform(1.0 / std::sqrt(fan_in));
      break;
  }
  if (!bias.defined()) return;
  const float bound = init == Init::fan_in_default ? float(1.0 / std::sqrt(fan_in)) : 0.0f;
  fill(bias.value(), [&] { return bound == 0.0f ? 0.0f : random.uniform(-bound, bound); });
}

}  // namespace

const Tensor& ConstantFilter::in(DType dtype) {
  if (values_.dtype() == dtype) return values_;
  if (!cast_.defined() || cast_.dtype() != dtype) {
    cast_ = cast(values_, dtype).value();
    packed = {};
  }
  return cast_;
}

Conv2d::Conv2d(int in_channels, int out_channels, int kernel, const Options& options)
    : weight(parameter(options.depthwise ? Shape{kernel, kernel, in_channels}
                                         : Shape{out_channels, kernel, kernel, in_channels})),
      params{options.stride, options.padding, 1, nullptr},
      depthwise(options.depthwise),
      init_(options.init) {
  PLUME_CHECK(!depthwise || in_channels == out_channels, "conv2d: depthwise with {} to {} channels",
              in_channels, out_channels);
  register_parameter("weight", weight, true);
  if (options.bias) {
    bias = parameter({out_channels});
    register_parameter("bias", bias);
  }
}

Variable Conv2d::forward(const Variable& x) {
  return depthwise ? depthwise_conv2d(x, weight, bias, params) : conv2d(x, weight, bias, params);
}

Variable Conv2d::forward_relu(const Variable& x) const {
  return conv2d(x, weight, bias, params, Activation::relu);
}

Tensor Conv2d::forward_fused(const Tensor& x, ConstantFilter& filter, const Epilogue& epilogue,
                             const MaxPool2dParams* pool) const {
  const Scope scope(*this);
  const Tensor& values = filter.in(x.dtype());
  Conv2dParams constant = params;
  constant.packed = &filter.packed;
  if (pool) return conv2d_max_pool(x, values, constant, epilogue, *pool);
  return depthwise ? depthwise_conv2d_fused(x, values, constant, epilogue)
                   : conv2d_fused(x, values, constant, epilogue);
}

void Conv2d::initialize_own(RandomSequence& random) {
  const Shape& s = weight.shape();
  const double taps = double(depthwise ? s[0] * s[1] : s[1] * s[2]);
  fill_weight(weight.value(), bias, init_, depthwise ? taps : taps * double(s[3]),
              taps * double(depthwise ? s[2] : s[0]), random);
}

BatchNorm2d::BatchNorm2d(int channels, const BatchNormParams& options)
    : weight(parameter({channels})),
      bias(parameter({channels})),
      running_mean(Tensor::zeros({channels}, DType::f32, Device::cpu, "parameter")),
      running_var(Tensor::zeros({channels}, DType::f32, Device::cpu, "parameter")),
      num_batches_tracked(Tensor::zeros({}, DType::i64, Device::cpu, "parameter")),
      params(options) {
  register_parameter("weight", weight);
  register_parameter("bias", bias);
  register_buffer("running_mean", running_mean);
  register_buffer("running_var", running_var);
  register_buffer("num_batches_tracked", num_batches_tracked);
}

Variable BatchNorm2d::forward(const Variable& x, const Variable& residual) {
  const Scope scope(*this);
  if ((!training() && !collecting_) || !weight.requires_grad())
    return batch_norm_eval(x, weight, bias, residual, running_mean, running_var, params);
  ++*num_batches_tracked.data<int64_t>();
  if (!alone())
    return sync_batch_norm_train(x, weight, bias, residual, running_mean, running_var, params, *ranks_);
  return batch_norm_train(x, weight, bias, residual, running_mean, running_var, params);
}

Variable BatchNorm2d::forward_dropped(const Variable& x, const Variable& residual, float drop) {
  if (!alone() || !weight.requires_grad() || !training() || !dropout_enabled())
    return stochastic_depth_add(forward(x), residual, drop, training());
  const Scope scope(*this);
  ++*num_batches_tracked.data<int64_t>();
  return batch_norm_train(x, weight, bias, residual, running_mean, running_var, params,
                          next_drop(drop, x.device()));
}

bool BatchNorm2d::alone() const { return !ranks_ || ranks_->size() == 1; }

SampleDrop BatchNorm2d::next_drop(float drop, Device device) const {
  return {layer_random().state(device), {drop, layer_random().next_call()}};
}

// Whoever hooks into the convolution wants to see its output.
bool BatchNorm2d::fuses_around(const Conv2d& conv) const {
  return training() && alone() && weight.requires_grad() && !conv.bias.defined() && !conv.hooked();
}

bool BatchNorm2d::fuses_behind(Conv2d& conv, const Variable& x) const {
  return fuses_around(conv) && fuses_conv_batch_norm(x, conv.weight, conv.params);
}

bool BatchNorm2d::fuses_before(Conv2d& conv, const Variable& x) const {
  return fuses_around(conv) && fuses_batch_norm_conv(x, params, conv.weight, conv.params);
}

Variable BatchNorm2d::forward_before(Conv2d& conv, const Variable& x) {
  const Scope scope(conv);
  ++*num_batches_tracked.data<int64_t>();
  return batch_norm_conv_train(x, weight, bias, running_mean, running_var, params, conv.weight, conv.params);
}

bool BatchNorm2d::fuses_excitation(const Conv2d& conv, const Variable& x) const {
  return fuses_around(conv) && fuses_batch_norm_excitation(x, conv.weight);
}

Variable BatchNorm2d::forward_excited(const SqueezeExcitation& squeeze, Conv2d& conv, const Variable& x) {
  const Scope scope(conv);
  ++*num_batches_tracked.data<int64_t>();
  return batch_norm_excitation_conv_train(x, weight, bias, running_mean, running_var, params,
                                          squeeze.weights(), squeeze.params(), conv.weight);
}

bool BatchNorm2d::begins_behind(const Conv2d& conv, const Variable& x, const MaxPool2dParams* pool) const {
  return fuses_around(conv) && fuses_first_layer(x, conv.weight, conv.params, params, pool);
}

Variable BatchNorm2d::forward_first(Conv2d& conv, const Variable& x, const MaxPool2dParams* pool) {
  const Scope scope(*this);
  ++*num_batches_tracked.data<int64_t>();
  return first_layer_train(x, conv.weight, weight, bias, running_mean, running_var, conv.params, params,
                           pool);
}

Variable BatchNorm2d::forward_behind(Conv2d& conv, const Variable& x, const Variable& residual) {
  if (!fuses_behind(conv, x)) {
    if (!residual.defined() && begins_behind(conv, x, nullptr)) return forward_first(conv, x, nullptr);
    return forward(conv(x), residual);
  }
  const Scope scope(*this);
  ++*num_batches_tracked.data<int64_t>();
  return conv_batch_norm_train(x, conv.weight, weight, bias, residual, running_mean, running_var, conv.params,
                               params);
}

Variable BatchNorm2d::forward_pooled_behind(Conv2d& conv, const Variable& x, const MaxPool2dParams& pool) {
  if (begins_behind(conv, x, &pool)) return forward_first(conv, x, &pool);
  const Variable z = conv(x);
  const bool trains = training() && alone() && weight.requires_grad();
  if (!trains || !fuses_batch_norm_max_pool(z, params, pool)) return max_pool2d(forward(z), pool);
  const Scope scope(*this);
  ++*num_batches_tracked.data<int64_t>();
  return batch_norm_max_pool_train(z, weight, bias, running_mean, running_var, params, pool);
}

Variable BatchNorm2d::forward_dropped_behind(Conv2d& conv, const Variable& x, const Variable& residual,
                                             float drop) {
  if (!dropout_enabled() || !fuses_behind(conv, x)) return forward_dropped(conv(x), residual, drop);
  const Scope scope(*this);
  ++*num_batches_tracked.data<int64_t>();
  return conv_batch_norm_train(x, conv.weight, weight, bias, residual, running_mean, running_var, conv.params,
                               params, next_drop(drop, x.device()));
}

void BatchNorm2d::initialize_own(RandomSequence&) {
  fill(weight.value(), [] { return 1.0f; });
  fill(running_var, [] { return 1.0f; });
  bias.value().fill_zero();
  running_mean.fill_zero();
  num_batches_tracked.fill_zero();
}

void BatchNorm2d::zero_scale() { weight.value().fill_zero(); }

Linear::Linear(int in_features, int out_features, Init init)
    : weight(parameter({out_features, in_features})), bias(parameter({out_features})), init_(init) {
  register_parameter("weight", weight);
  register_parameter("bias", bias);
}

Variable Linear::forward(const Variable& x) {
  if (constant_) return linear(x, constant_->in(x.dtype()), bias);
  return linear(x, weight, bias);
}

Variable Linear::forward_activated(const Variable& x, Activation kind) {
  if (!constant_ || hooked()) return activation((*this)(x), kind);
  const Scope scope(*this);
  Epilogue epilogue;
  epilogue.shift = bias.value();
  epilogue.activation = kind;
  return linear_fused(x.value(), constant_->in(x.dtype()), epilogue);
}

Variable Linear::forward_pooled(const Variable& x, Activation kind) {
  if (constant_ && !hooked()) {
    const Scope scope(*this);
    return pooled_linear(x.value(), constant_->in(x.dtype()), {.shift = bias.value(), .activation = kind});
  }
  const Variable pooled = global_avg_pool(x);
  return kind == Activation::identity ? (*this)(pooled) : forward_activated(pooled, kind);
}

void Linear::fuse_own(bool on) {
  constant_ = on ? std::make_unique<ConstantFilter>(weight.value()) : nullptr;
}

void Linear::initialize_own(RandomSequence& random) {
  fill_weight(weight.value(), bias, init_, double(weight.dim(1)), double(weight.dim(0)), random);
}

Variable ConvBn::forward(const Variable& x, const Variable& residual) {
  if (!folded_) return norm_.forward_behind(conv_, x, residual);
  Epilogue epilogue;
  epilogue.shift = folded_->shift;
  if (residual.defined()) epilogue.residual = residual.value();
  epilogue.activation = norm_.params.activation;
  return conv_.forward_fused(x.value(), folded_->filter, epilogue);
}

Variable ConvBn::forward_pooled(const Variable& x, const MaxPool2dParams& pool) {
  if (!folded_) return norm_.forward_pooled_behind(conv_, x, pool);
  return conv_.forward_fused(x.value(), folded_->filter,
                             {.shift = folded_->shift, .activation = norm_.params.activation}, &pool);
}

Variable ConvBn::forward_chain(std::span<ConvBn* const> pairs, const Variable& x, const Variable& residual,
                               float drop, SqueezeExcitation* squeeze) {
  Variable y = x;
  const ConvBn* open = nullptr;  // y is this pair's convolution, and its norm is still to come
  for (ConvBn* pair : pairs) {
    const bool last = pair == pairs.back();
    SqueezeExcitation* const excitation = last ? squeeze : nullptr;
    if (open && excitation && open->norm_.fuses_excitation(pair->conv_, y)) {
      y = open->norm_.forward_excited(*excitation, pair->conv_, y);
    } else if (open && !excitation && open->norm_.fuses_before(pair->conv_, y)) {
      y = open->norm_.forward_before(pair->conv_, y);
    } else {
      if (open) y = open->norm_.forward(y);
      if (excitation) y = (*excitation)(y);
      open = nullptr;
      if (last && drop > 0) return pair->forward_dropped(y, residual, drop);
      if (last) return pair->forward(y, residual);
      if (pair->folded_ || pair->norm_.fuses_behind(pair->conv_, y)) {
        y = pair->forward(y);
        continue;
      }
      y = pair->conv_(y);
    }
    open = pair;
  }
  return drop > 0 ? open->norm_.forward_dropped(y, residual, drop) : open->norm_.forward(y, residual);
}

void ConvBn::fuse(bool on) {
  folded_.reset();
  if (!on) return;
  const std::vector<float> gamma = norm_.weight.value().to_vector<float>(),
                           beta = norm_.bias.value().to_vector<float>();
  const std::vector<float> mean = norm_.running_mean.to_vector<float>(),
                           var = norm_.running_var.to_vector<float>();
  std::vector<float> weight = conv_.weight.value().to_vector<float>(), shift(gamma.size());
  const std::vector<float> bias =
      conv_.bias.defined() ? conv_.bias.value().to_vector<float>() : std::vector<float>(gamma.size());
  const size_t channels = gamma.size(), per_filter = weight.size() / channels;
  for (size_t k = 0; k < channels; ++k) {
    const double scale = double(gamma[k]) / std::sqrt(double(var[k]) + double(norm_.params.eps));
    shift[k] = float(double(beta[k]) + (double(bias[k]) - double(mean[k])) * scale);
    for (size_t i = 0; i < per_filter; ++i) {
      float& w = weight[conv_.depthwise ? i * channels + k : k * per_filter + i];
      w = float(double(w) * scale);
    }
  }
  const Device device = conv_.weight.device();
  folded_ =
      std::make_unique<Folded>(Folded{ConstantFilter(Tensor::from(weight, conv_.weight.shape(), device)),
                                      Tensor::from(shift, {int64_t(shift.size())}, device)});
}

Variable ConvAct::forward(const Variable& x) {
  const Scope scope(conv_);
  // Whoever hooks into the convolution wants to see its output.
  const bool one_pass = activation_ == Activation::relu && conv_.bias.defined() && !conv_.depthwise;
  if (!constant_ && one_pass && !conv_.hooked()) return conv_.forward_relu(x);
  if (!constant_) return activation(conv_(x), activation_);
  return conv_.forward_fused(x.value(), *constant_, epilogue());
}

Variable ConvAct::forward_pooled(const Variable& x, const MaxPool2dParams& pool) {
  return conv_.forward_fused(x.value(), *constant_, epilogue(), &pool);
}

Epilogue ConvAct::epilogue() const {
  Epilogue epilogue;
  if (conv_.bias.defined()) epilogue.shift = conv_.bias.value();
  epilogue.activation = activation_;
  return epilogue;
}

void ConvAct::fuse(bool on) {
  constant_ = on ? std::make_unique<ConstantFilter>(conv_.weight.value()) : nullptr;
}

}  // namespace plume
