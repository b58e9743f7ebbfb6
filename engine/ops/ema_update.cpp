#include "engine/ops/ema_update.h"

namespace plume {
namespace {

// The average is read and written, the value read.
CallCost ema_cost(const std::vector<AveragedTensor>& tensors, const Tensor&) {
  CallCost cost{CallClass::optimizer, 0, 0};
  for (const AveragedTensor& t : tensors) cost.bytes += 3 * double(t.average.bytes());
  return cost;
}

}  // namespace

constinit KernelSlot<EmaUpdate> ema_update{"ema_update", ema_cost};

}  // namespace plume
