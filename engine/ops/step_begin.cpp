#include "engine/ops/step_begin.h"

namespace plume {

constinit KernelSlot<GradientNorm> gradient_norm{"gradient_norm", costs<CallClass::optimizer>};
constinit KernelSlot<StepBegin> step_begin{"step_begin", costs<CallClass::optimizer>};

}  // namespace plume
