#include "engine/ops/optimizer_step.h"

#include "engine/cpu/parallel.h"
#include "engine/ops/cast.h"

namespace plume::cpu {
namespace {

// Which arrays there are is known outside the loop, so that it has no branch.
template <bool kFirst, bool kSecond, class Rule>
void update(StepTensor& tensor, const StepControl& control, const Rule& rule) {
  float* parameter = tensor.parameter.data<float>();
  const float* gradient = tensor.gradient.data<float>();
  float* first = kFirst ? tensor.first.data<float>() : nullptr;
  float* second = kSecond ? tensor.second.data<float>() : nullptr;
  parallel_for(tensor.parameter.size(), kElementGrain, [=](int64_t begin, int64_t end) {
    PLUME_SIMD
    for (int64_t i = begin; i < end; ++i) {
      float a = 0.0f, b = 0.0f;
      if constexpr (kFirst) a = first[i];
      if constexpr (kSecond) b = second[i];
      rule(parameter[i], control.gradient(gradient[i]), a, b);
      if constexpr (kFirst) first[i] = a;
      if constexpr (kSecond) second[i] = b;
    }
  });
}

template <class Rule, class Params>
void run(Context& context, std::vector<StepTensor>& tensors, const Tensor& control, const Params& params) {
  const StepControl c = *control_of(control);
  if (c.skip != 0) return;
  for (StepTensor& t : tensors) {
    const Rule rule(params, c.learning_rate * t.rate_factor, t.weight_decay, c);
    const auto loop = t.first.defined()
                          ? t.second.defined() ? update<true, true, Rule> : update<true, false, Rule>
                      : t.second.defined() ? update<false, true, Rule>
                                           : update<false, false, Rule>;
    loop(t, c, rule);
    if (t.rounded.defined()) cast_forward(context, t.parameter, t.rounded);
  }
}

const bool registered = sgd_step.add(Device::cpu, {{"loop", always, run<SgdRule, SgdParams>}}) &&
                        adam_step.add(Device::cpu, {{"loop", always, run<AdamRule, AdamParams>}}) &&
                        rmsprop_step.add(Device::cpu, {{"loop", always, run<RmspropRule, RmspropParams>}});

}  // namespace
}  // namespace plume::cpu
