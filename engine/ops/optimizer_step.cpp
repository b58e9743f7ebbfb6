#include "engine/ops/optimizer_step.h"

namespace plume {
namespace {

// The gradient is read, the rounded copy written, all else both.
template <class Params>
CallCost step_cost(const std::vector<StepTensor>& tensors, const Tensor&, const Params&) {
  CallCost cost{CallClass::optimizer, 0, 0};
  for (const StepTensor& t : tensors) {
    cost.bytes += double(t.parameter.bytes()) * (3 + 2 * t.first.defined() + 2 * t.second.defined());
    if (t.rounded.defined()) cost.bytes += double(t.rounded.bytes());
  }
  return cost;
}

}  // namespace

constinit KernelSlot<SgdStep> sgd_step{"sgd_step", step_cost<SgdParams>};
constinit KernelSlot<AdamStep> adam_step{"adam_step", step_cost<AdamParams>};
constinit KernelSlot<RmspropStep> rmsprop_step{"rmsprop_step", step_cost<RmspropParams>};

}  // namespace plume
