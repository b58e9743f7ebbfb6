#include "tools/training/learner.h"

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

// Before pretrained weights, which replace what they have.
void begin_at_zero(Module& model, const Recipe& r) {
  if (r.zero_init == "residual" || r.zero_init == "both")
    PLUME_CHECK(model.zero_residual_branches() > 0, "--zero-init {}: {} has no residual branches",
                r.zero_init, r.model);
  if (r.zero_init != "head" && r.zero_init != "both") return;
  const std::string head = head_prefix(model);
  for (NamedParameter& p : model.parameters())
    if (p.name.starts_with(head)) p.variable.value().fill_zero();
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

std::string load_pretrained(const std::string& path, Module& model, FitOptions fit) {
  const std::string head = fit.head = head_prefix(model);
  FittedWeights fitted = fit_weights(open_weights(path), state_sources({{"", model.state()}}), fit);
  Weights& weights = fitted.weights;
  const std::string how = fitted.note.empty() ? path : fitted.note;
  const NamedParameter last = model.parameters().back();
  const WeightTensor* bias = find_tensor(weights.tensors, last.name);
  if (!fitted.headless && (bias == nullptr || bias->has_shape(last.variable.shape()))) {
    load_state(weights, model);
    return message("begins with the weights of {}", how);
  }
  StateGroup group{"", model.state()};
  const std::string block = head.substr(0, head.find('.') + 1);
  std::erase_if(group.tensors, [&](const NamedTensor& t) {
    const bool gone = fitted.headless && find_tensor(weights.tensors, t.name) == nullptr;
    return t.name.starts_with(head) || (gone && t.name.starts_with(block));
  });
  const std::string found = fitted.headless ? "missing" : bias->describe();
  std::erase_if(weights.tensors, [&](const WeightTensor& t) { return t.name.starts_with(head); });
  load_state(weights, {group});
  model.train(model.training());
  return message("begins with the weights of {}, but a new last layer: {}bias there is {}, here {}", how,
                 head, found, last.variable.shape());
}

Learner make_learner(const Recipe& r, int classes, Device device, bool pretrained, const FitOptions& fit) {
  Learner learner;
  learner.model =
      make_model(r.model, {.num_classes = classes, .stem = parse_stem(r.stem), .seed = uint64_t(r.seed)});
  Module& model = *learner.model;
  begin_at_zero(model, r);
  if (pretrained && !r.weights.empty()) learner.note = load_pretrained(r.weights, model, fit);
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
