#include "engine/ops/relu_bias.h"

namespace plume {

constinit KernelSlot<ReluBiasBackward> relu_bias_backward{"relu_bias.backward", costs<CallClass::activation>};

}  // namespace plume
