#include "engine/ops/optimizer_step.h"

#include <cmath>

#include "bench/support/slot_bench.h"
#include "engine/ops/ema_update.h"
#include "engine/ops/step_begin.h"

namespace plume {

namespace {

const Tensor& measured(const StepTensor& t) { return t.parameter; }
const Tensor& measured(const AveragedTensor& t) { return t.average; }
const Tensor& measured(const Tensor& t) { return t; }

template <class T>
std::string describe_all(const std::vector<T>& tensors) {
  int64_t elements = 0;
  for (const T& t : tensors) elements += measured(t).size();
  return message("{}tensors_{}elements", tensors.size(), elements);
}

double rounded(double v) { return std::round(v * 1e3) / 1e3; }

}  // namespace

std::string describe(const std::vector<StepTensor>& tensors) { return describe_all(tensors); }
std::string describe(const std::vector<AveragedTensor>& tensors) { return describe_all(tensors); }
std::string describe(const std::vector<Tensor>& tensors) { return describe_all(tensors); }
std::string describe(const SgdParams& p) {
  return message("momentum{}{}", rounded(p.momentum), p.nesterov ? "_nesterov" : "");
}
std::string describe(const AdamParams& p) { return p.decoupled ? "decoupled" : "coupled"; }
std::string describe(const RmspropParams& p) {
  return message("momentum{}{}", rounded(p.momentum), p.tensorflow ? "_tensorflow" : "");
}
std::string describe(const StepRules& r) {
  return message("clip{}_{}", rounded(double(r.largest_norm)), r.scaling.enabled ? "scaling" : "plain");
}

namespace bench {
namespace {

// A step that is taken; mean squares that have a root.
template <class Params>
void complete(Context&, std::vector<StepTensor>& tensors, Tensor& control, Params&) {
  const StepControl usual{.learning_rate = 1e-3f};
  control.copy_from(Tensor::from_bytes(&usual, control.shape(), DType::f32, Device::cpu));
  for (StepTensor& t : tensors)
    if (t.second.defined()) t.second.fill_zero();
}

// Models are recorded with SGD: the others work on the same parameters.
std::vector<StepTensor> with_second(std::vector<StepTensor> tensors, bool first) {
  for (StepTensor& t : tensors) {
    t.second = t.parameter;
    t.first = first ? t.parameter : Tensor();
  }
  return tensors;
}

void derive_adam(BenchOf<adam_step>& bench, Device) {
  for (const auto& [tensors, control, sgd] : recorded_calls<sgd_step>())
    bench.note({with_second(tensors, true), control, AdamParams{}});
}
void derive_rmsprop(BenchOf<rmsprop_step>& bench, Device) {
  for (const auto& [tensors, control, sgd] : recorded_calls<sgd_step>())
    for (const double momentum : {0.0, 0.9})
      bench.note({with_second(tensors, momentum > 0), control, RmspropParams{.momentum = momentum}});
}
void derive_norm(BenchOf<gradient_norm>& bench, Device device) {
  for (const auto& [tensors, control, sgd] : recorded_calls<sgd_step>()) {
    std::vector<Tensor> gradients;
    for (const StepTensor& t : tensors) gradients.push_back(t.gradient);
    bench.note({gradients, Tensor::zeros({1}, DType::f32, device)});
  }
}
void derive_ema(BenchOf<ema_update>& bench, Device device) {
  for (const auto& [tensors, control, sgd] : recorded_calls<sgd_step>()) {
    std::vector<AveragedTensor> averaged;
    for (const StepTensor& t : tensors) averaged.push_back({t.parameter, t.gradient});
    bench.note({averaged, Tensor::from(std::vector<float>{1e-3f}, {1}, device)});
  }
}
void complete_begin(Context&, Tensor& input, Tensor&, StepRules&, Tensor& control) {
  const StepControl usual;
  input.copy_from(Tensor::from(std::vector<float>{1e-3f, 1}, {2}));
  control.copy_from(Tensor::from_bytes(&usual, control.shape(), DType::f32, Device::cpu));
}

const bool optimizer_step_registered =
    bench_slot<sgd_step>({.complete = complete<SgdParams>}) &&
    bench_slot<adam_step>({.complete = complete<AdamParams>, .derive = derive_adam}) &&
    bench_slot<rmsprop_step>({.complete = complete<RmspropParams>, .derive = derive_rmsprop}) &&
    bench_slot<gradient_norm>({.derive = derive_norm}) && bench_slot<ema_update>({.derive = derive_ema}) &&
    bench_slot<step_begin>({.complete = complete_begin});

}  // namespace
}  // namespace bench
}  // namespace plume
