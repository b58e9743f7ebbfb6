#include "tools/training/learner.h"

#include "engine/serialization/checkpoint.h"
#include "engine/serialization/state_dict.h"

namespace plume::tools {
namespace {

OptimizerOptions optimizer_options(const Recipe& r) {
  OptimizerOptions o = default_options(r.optimizer);
  o.momentum = r.optimizer == "sgd" || r.optimizer.starts_with("rmsprop") ? r.momentum : 0;
  o.nesterov = r.nesterov;
  o.beta1 = r.beta1;
  o.beta2 = r.beta2;
  o.alpha = r.alpha;
  o.epsilon = r.eps;
  o.weight_decay = r.weight_decay;
  o.decay_norms_and_biases = !r.no_norm_decay;
  o.clip_norm = r.clip_norm;
  o.loss_scaling.enabled = r.precision == "f16";
  return o;
}

}  // namespace

std::vector<NamedTensor> Learner::weights() { return ema ? ema->state() : model->state(); }

std::vector<NamedTensor> Learner::rest() {
  std::vector<NamedTensor> all = optimizer->state();
  if (!ema) return all;
  for (NamedTensor entry : model->state()) {
    entry.name = "own." + entry.name;
    all.push_back(std::move(entry));
  }
  return all;
}

std::string head_prefix(Module& model) {
  const std::string last = model.parameters().back().name;
  return last.substr(0, last.rfind('.') + 1);
}

std::string load_pretrained(const std::string& path, Module& model) {
  Weights weights = open_weights(path);
  const std::string head = head_prefix(model);
  const NamedParameter last = model.parameters().back();
  const WeightTensor* bias = find_tensor(weights.tensors, last.name);
  const std::string ignored = weights.metadata.contains("plume.format") ? kOptimizerPrefix : "";
  if (bias == nullptr || bias->has_shape(last.variable.shape())) {
    load_state(weights, model, ignored);
    return message("begins with the weights of {}", path);
  }
  StateGroup group{"", model.state()};
  std::erase_if(group.tensors, [&](const NamedTensor& t) { return t.name.starts_with(head); });
  const std::string found = bias->describe();
  std::erase_if(weights.tensors, [&](const WeightTensor& t) { return t.name.starts_with(head); });
  load_state(weights, {group}, ignored);
  model.train(model.training());
  return message("begins with the weights of {}, but a new last layer: {}bias there is {}, here {}", path,
                 head, found, last.variable.shape());
}

Learner make_learner(const Recipe& r, int classes, Device device) {
  Learner learner;
  learner.model =
      make_model(r.model, {.num_classes = classes, .stem = parse_stem(r.stem), .seed = uint64_t(r.seed)});
  Module& model = *learner.model;
  if (!r.weights.empty()) learner.note = load_pretrained(r.weights, model);
  model.to(device);
  ParameterGroup head, backbone;
  const std::string prefix = head_prefix(model);
  for (const NamedParameter& p : model.parameters())
    (p.name.starts_with(prefix) ? head : backbone).parameters.push_back(p);
  if (r.freeze_backbone)
    for (NamedParameter& p : backbone.parameters) p.variable.set_requires_grad(false);
  head.rate_factor = float(r.head_lr_factor);
  learner.optimizer = std::make_unique<Optimizer>(
      std::vector<ParameterGroup>{std::move(head), std::move(backbone)}, optimizer_options(r));
  learner.ranks = std::make_unique<TrainingRanks>(model, r.sync_bn);
  if (r.ema_decay > 0) learner.ema = std::make_unique<Ema>(model);
  return learner;
}

}  // namespace plume::tools
