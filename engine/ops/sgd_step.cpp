#include "engine/ops/sgd_step.h"

namespace plume {

namespace {

// Parameter and velocity are read and written, the gradient is read.
CallCost sgd_cost(const std::vector<SgdTensor>& tensors, const SgdParams&) {
  CallCost cost{CallClass::optimizer, 0, 0};
  for (const SgdTensor& t : tensors)
    cost.bytes += double(t.parameter.bytes()) * (t.velocity.defined() ? 5 : 3);
  return cost;
}

}  // namespace

constinit KernelSlot<SgdStep> sgd_step{"sgd_step", sgd_cost};

}  // namespace plume
