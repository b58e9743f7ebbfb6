#include "engine/ops/epilogue.h"

namespace plume {

constinit KernelSlot<EpilogueApply> epilogue_apply{"epilogue.apply", costs<CallClass::activation>};

}  // namespace plume
