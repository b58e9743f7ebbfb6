#include "engine/optim/optimizer.h"

#include <algorithm>

#include "engine/core/context.h"
#include "engine/ops/cast.h"

namespace plume {
namespace {

constexpr std::pair<const char*, Algorithm> kNames[] = {{"sgd", Algorithm::sgd},
                                                        {"adam", Algorithm::adam},
                                                        {"adamw", Algorithm::adamw},
                                                        {"rmsprop", Algorithm::rmsprop},
                                                        {"rmsprop_tf", Algorithm::rmsprop_tf}};

bool is_adam(Algorithm a) { return a == Algorithm::adam || a == Algorithm::adamw; }

void check_options(const OptimizerOptions& o) {
  const auto check = [&](const char* what, double value, double least, double below) {
    PLUME_CHECK(value >= least && value < below, "{}: {} is {}, expected from {} to below {}",
                name(o.algorithm), what, value, least, below);
  };
  check("momentum", o.momentum, 0, 1);
  check("beta1", o.beta1, 0, 1);
  check("beta2", o.beta2, 0, 1);
  check("alpha", o.alpha, 0, 1);
  check("epsilon", o.epsilon, 0, 1e3);
  check("weight decay", o.weight_decay, 0, 1e6);
  check("clip norm", o.clip_norm, 0, 1e30);
  check("clip value", o.clip_value, 0, 1e30);
  PLUME_CHECK(!o.nesterov || (o.algorithm == Algorithm::sgd && o.momentum > 0),
              "{}: Nesterov needs SGD with a momentum above 0", name(o.algorithm));
  const LossScaling& s = o.loss_scaling;
  if (!s.enabled) return;
  PLUME_CHECK(s.initial > 0 && s.initial <= FLT_MAX, "loss scaling: starts at {}", s.initial);
  PLUME_CHECK(s.growth > 1 && s.backoff > 0 && s.backoff < 1 && s.interval > 0,
              "loss scaling: growth {} (above 1), backoff {} (between 0 and 1), interval {} (above 0)",
              s.growth, s.backoff, s.interval);
}

bool is_norm_or_bias(const NamedParameter& p) {
  return p.variable.value().rank() <= 1 || p.name.ends_with(".bias");
}

Tensor filled(const Tensor& like, float value) {
  if (value == 0) return Tensor::zeros(like.shape(), DType::f32, like.device(), "optimizer");
  Tensor t = Tensor::empty(like.shape(), DType::f32, like.device(), "optimizer");
  t.copy_from(Tensor::from(std::vector<float>(size_t(like.size()), value), like.shape()));
  return t;
}

}  // namespace

const char* name(Algorithm algorithm) { return kNames[size_t(algorithm)].first; }

std::vector<std::string> optimizer_names() {
  std::vector<std::string> names;
  for (const auto& [name, algorithm] : kNames) names.emplace_back(name);
  return names;
}

OptimizerOptions default_options(const std::string& name) {
  const auto* const found = std::find_if(std::begin(kNames), std::end(kNames),
                                         [&](const auto& entry) { return name == entry.first; });
  std::string all;
  for (const auto& [known, algorithm] : kNames) all += (all.empty() ? "" : ", ") + std::string(known);
  PLUME_CHECK(found != std::end(kNames), "optimizer '{}' is not one of {}", name, all);
  OptimizerOptions options{.algorithm = found->second};
  if (options.algorithm == Algorithm::adamw) options.weight_decay = 0.01;
  if (options.algorithm == Algorithm::rmsprop_tf) {
    options.alpha = 0.9;
    options.epsilon = 1e-10;
  }
  return options;
}

std::vector<ParameterGroup> fine_tuning_groups(const std::vector<NamedParameter>& parameters,
                                               const std::vector<std::string>& prefixes, float rate_factor) {
  ParameterGroup head, backbone{.parameters = {}, .rate_factor = rate_factor, .weight_decay = {}};
  for (const NamedParameter& p : parameters) {
    const bool in_head = std::any_of(prefixes.begin(), prefixes.end(),
                                     [&](const std::string& prefix) { return p.name.starts_with(prefix); });
    (in_head ? head : backbone).parameters.push_back(p);
    if (!in_head && rate_factor == 0) backbone.parameters.back().variable.set_requires_grad(false);
  }
  PLUME_CHECK(!head.parameters.empty(), "no parameter's name begins with '{}'",
              prefixes.empty() ? "" : prefixes.front());
  return {std::move(head), std::move(backbone)};
}

Optimizer::Optimizer(std::vector<NamedParameter> parameters, const OptimizerOptions& options)
    : Optimizer(std::vector<ParameterGroup>{{std::move(parameters), 1, {}}}, options) {}

Optimizer::Optimizer(std::vector<ParameterGroup> groups, const OptimizerOptions& options)
    : options_(options) {
  check_options(options);
  for (const ParameterGroup& group : groups)
    for (const NamedParameter& p : group.parameters) add(p, group);
  const Device device = parameters_.empty() ? Device::cpu : parameters_[0].variable.device();
  const float scale = options.loss_scaling.enabled ? options.loss_scaling.initial : 1.0f;
  const StepControl start{.loss_scale = scale};
  input_ = Tensor::zeros({2}, DType::f32, device, "optimizer");
  if (options.clip_norm > 0 || options.loss_scaling.enabled)
    norm_ = Tensor::zeros({1}, DType::f32, device, "optimizer");
  control_ = Tensor::from_bytes(&start, {kStepNumbers}, DType::f32, device);
}

void Optimizer::add(const NamedParameter& p, const ParameterGroup& group) {
  const Tensor& value = p.variable.value();
  PLUME_CHECK(value.dtype() == DType::f32, "{}: {} is {}, expected f32", name(options_.algorithm), p.name,
              value);
  parameters_.push_back(p);
  PLUME_CHECK(value.device() == parameters_[0].variable.device(), "{}: {} is {}, the others are on {}",
              name(options_.algorithm), p.name, value, parameters_[0].variable.device());
  if (!p.variable.requires_grad()) return;
  Entry entry{p, {}};
  if (is_adam(options_.algorithm) || options_.momentum > 0) entry.step.first = filled(value, 0);
  if (options_.algorithm != Algorithm::sgd)
    entry.step.second = filled(value, options_.algorithm == Algorithm::rmsprop_tf ? 1 : 0);
  entry.step.rate_factor = group.rate_factor;
  const bool spared = !options_.decay_norms_and_biases && is_norm_or_bias(p);
  entry.step.weight_decay = spared ? 0.0f : float(group.weight_decay.value_or(options_.weight_decay));
  entries_.push_back(std::move(entry));
}

void Optimizer::prepare(float learning_rate, int passes) {
  PLUME_CHECK(passes > 0, "{}: gradients of {} passes", name(options_.algorithm), passes);
  const float input[2] = {learning_rate, float(passes)};
  to_input_.send(input, sizeof(input), input_);
  for (const NamedParameter& p : parameters_) refresh_kept_casts(p.variable);
}

void Optimizer::apply() {
  std::vector<StepTensor> active;
  std::vector<Tensor> gradients;
  std::vector<std::pair<KeptCast*, const Variable*>> casts;
  active.reserve(entries_.size());
  for (const Entry& entry : entries_) {
    const Tensor& gradient = entry.parameter.variable.grad();
    if (!gradient.defined()) continue;
    active.push_back(entry.step);
    active.back().parameter = entry.parameter.variable.value();
    active.back().gradient = gradient;
    KeptCast* kept = right_cast(entry.parameter.variable);
    if (kept && (casts.empty() || kept->tensor.dtype() == casts.front().first->tensor.dtype())) {
      active.back().rounded = kept->tensor;
      casts.emplace_back(kept, &entry.parameter.variable);
    }
    if (norm_.defined()) gradients.push_back(gradient);
  }
  if (active.empty()) return;
  const OptimizerOptions& o = options_;
  Context& context = plume::context(control_.device());
  if (norm_.defined()) gradient_norm(context, gradients, norm_);
  const StepRules rules{.beta1 = is_adam(o.algorithm) ? o.beta1 : 0,
                        .beta2 = is_adam(o.algorithm) ? o.beta2 : 0,
                        .largest_norm = float(o.clip_norm),
                        .largest_value = float(o.clip_value),
                        .scaling = o.loss_scaling};
  step_begin(context, input_, norm_, rules, control_);
  switch (o.algorithm) {
    case Algorithm::sgd:
      sgd_step(context, active, control_, {o.momentum, o.nesterov});
      break;
    case Algorithm::adam:
    case Algorithm::adamw:
      adam_step(context, active, control_, {o.beta1, o.beta2, o.epsilon, o.algorithm == Algorithm::adamw});
      break;
    case Algorithm::rmsprop:
    case Algorithm::rmsprop_tf:
      rmsprop_step(context, active, control_,
                   {o.alpha, o.epsilon, o.momentum, o.algorithm == Algorithm::rmsprop_tf});
      break;
  }
  for (const auto& [kept, variable] : casts) say_right(*kept, *variable);
}

void Optimizer::zero_grad() {
  for (NamedParameter& p : parameters_) p.variable.clear_grad();
}

Tensor Optimizer::loss_scale() const {
  const auto owner = std::make_shared<Tensor>(control_);
  return Tensor::adopt(std::shared_ptr<void>(owner, &control_of(*owner)->loss_scale), {1}, DType::f32,
                       control_.device());
}

StepControl Optimizer::status() const {
  const Tensor host = control_.to(Device::cpu);
  return *control_of(host);
}

void Optimizer::check() const {
  const StepControl s = status();
  if (s.skipped_in_a_row >= kMostSkippedInARow)
    fail(ErrorKind::numeric,
         "{} steps in a row were skipped for gradients that are not finite; the loss scale is down to {}",
         s.skipped_in_a_row, s.loss_scale);
}

std::vector<NamedTensor> Optimizer::state() {
  const std::string first = is_adam(options_.algorithm) ? "mean." : "velocity.";
  std::vector<NamedTensor> all;
  for (Entry& entry : entries_) {
    const NamedParameter& p = entry.parameter;
    if (entry.step.first.defined()) all.push_back({first + p.name, &entry.step.first, p.filter});
    if (entry.step.second.defined()) all.push_back({"square." + p.name, &entry.step.second, p.filter});
  }
  all.push_back({"control", &control_, false});
  return all;
}

}  // namespace plume
