#include "engine/modules/layers.h"

#include <cmath>

#include "engine/ops/cast.h"
#include "engine/ops/linear.h"

namespace plume {
namespace {

Variable parameter(const Shape& shape) {
  return Variable(Tensor::zeros(shape, DType::f32, Device::cpu, "parameter"), true);
}

template <class F>
void fill(Tensor& tensor, F&& next) {
  std::vector<float> values(size_t(tensor.size()));
  for (float& v : values) v = next();
  tensor.copy_from(Tensor::from(values, tensor.shape()));
}

}  // namespace

Conv2d::Conv2d(int in_channels, int out_channels, int kernel, const Options& options)
    : weight(parameter({out_channels, kernel, kernel, in_channels})),
      params{options.stride, options.padding, 1, nullptr} {
  register_parameter("weight", weight, true);
  if (options.bias) {
    bias = parameter({out_channels});
    register_parameter("bias", bias);
  }
}

Variable Conv2d::forward(const Variable& x) { return conv2d(x, cast(weight, x.dtype()), bias, params); }

void Conv2d::initialize_own(RandomSequence& random) {
  const double fan_out = double(weight.dim(0)) * double(weight.dim(1)) * double(weight.dim(2));
  const float deviation = float(std::sqrt(2.0 / fan_out));
  fill(weight.value(), [&] { return random.normal() * deviation; });
  if (bias.defined()) bias.value().fill_zero();
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
  if (!training()) return batch_norm_eval(x, weight, bias, residual, running_mean, running_var, params);
  ++*num_batches_tracked.data<int64_t>();
  return batch_norm_train(x, weight, bias, residual, running_mean, running_var, params);
}

void BatchNorm2d::initialize_own(RandomSequence&) {
  fill(weight.value(), [] { return 1.0f; });
  fill(running_var, [] { return 1.0f; });
  bias.value().fill_zero();
  running_mean.fill_zero();
  num_batches_tracked.fill_zero();
}

Linear::Linear(int in_features, int out_features)
    : weight(parameter({out_features, in_features})), bias(parameter({out_features})) {
  register_parameter("weight", weight);
  register_parameter("bias", bias);
}

Variable Linear::forward(const Variable& x) { return linear(x, cast(weight, x.dtype()), bias); }

void Linear::initialize_own(RandomSequence& random) {
  const float bound = float(1.0 / std::sqrt(double(weight.dim(1))));
  fill(weight.value(), [&] { return random.uniform(-bound, bound); });
  fill(bias.value(), [&] { return random.uniform(-bound, bound); });
}

Variable ConvBn::forward(const Variable& x, const Variable& residual) {
  if (!folded_) return norm_.forward(conv_.forward(x), residual);
  Epilogue epilogue;
  epilogue.shift = folded_->shift;
  if (residual.defined()) epilogue.residual = residual.value();
  epilogue.activation = norm_.params.activation;
  Conv2dParams params = conv_.params;
  params.packed = &folded_->packed;
  return conv2d_fused(x.value(), folded_->weight, params, epilogue);
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
  const size_t per_filter = weight.size() / gamma.size();
  for (size_t k = 0; k < gamma.size(); ++k) {
    const double scale = double(gamma[k]) / std::sqrt(double(var[k]) + double(norm_.params.eps));
    shift[k] = float(double(beta[k]) + (double(bias[k]) - double(mean[k])) * scale);
    for (size_t i = 0; i < per_filter; ++i)
      weight[k * per_filter + i] = float(double(weight[k * per_filter + i]) * scale);
  }
  const Device device = conv_.weight.device();
  folded_ = std::make_unique<Folded>();
  folded_->weight = Tensor::from(weight, conv_.weight.shape(), device);
  folded_->shift = Tensor::from(shift, {int64_t(shift.size())}, device);
}

}  // namespace plume
