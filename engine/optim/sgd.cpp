#include "engine/optim/sgd.h"

namespace plume {

Sgd::Sgd(std::vector<NamedParameter> parameters, const Options& options)
    : options_(options),
      parameters_(std::move(parameters)),
      steps_(Tensor::zeros({}, DType::i64, Device::cpu, "optimizer")) {
  PLUME_CHECK(!options.nesterov || options.momentum > 0, "sgd: Nesterov needs a momentum above 0");
  for (const NamedParameter& p : parameters_) {
    SgdTensor t;
    t.parameter = p.variable.value();
    // Zero, so that the first step's v = momentum * 0 + g equals PyTorch's v = g (dampening is not offered).
    if (options.momentum > 0)
      t.velocity = Tensor::zeros(t.parameter.shape(), DType::f32, t.parameter.device(), "optimizer");
    const bool spared = !options.decay_norms_and_biases && t.parameter.rank() <= 1;
    t.weight_decay = spared ? 0.0f : options.weight_decay;
    tensors_.push_back(std::move(t));
  }
}

void Sgd::step(float learning_rate) {
  if (tensors_.empty()) return;
  std::vector<SgdTensor> active;
  active.reserve(tensors_.size());
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const Tensor& gradient = parameters_[i].variable.grad();
    if (!gradient.defined()) continue;
    active.push_back(tensors_[i]);
    active.back().parameter = parameters_[i].variable.value();
    active.back().gradient = gradient;
  }
  SgdParams params;
  params.learning_rate = learning_rate;
  params.momentum = options_.momentum;
  params.nesterov = options_.nesterov;
  sgd_step(parameters_[0].variable.context(), active, params);
  ++*steps_.data<int64_t>();
}

void Sgd::zero_grad() {
  for (NamedParameter& p : parameters_) p.variable.clear_grad();
}

std::vector<NamedTensor> Sgd::state() {
  std::vector<NamedTensor> all;
  for (size_t i = 0; i < tensors_.size(); ++i)
    if (tensors_[i].velocity.defined()) all.push_back({parameters_[i].name, &tensors_[i].velocity, false});
  all.push_back({"steps", &steps_, false});
  return all;
}

}  // namespace plume
