#include "engine/ops/sgd_step.h"

namespace plume {

constinit KernelSlot<SgdStep> sgd_step{"sgd_step"};

}  // namespace plume
