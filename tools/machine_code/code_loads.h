// When a warp waits for what it has loaded, from the order of its machine code.
#pragma once
#include <vector>

#include "tools/machine_code/code_flow.h"
#include "tools/machine_code/machine_code.h"

namespace plume::tools {

// Over all runs of the blocks: how often an instruction needs a value of global memory that was loaded before
// it and not needed yet, and the bytes that are then on their way. What was loaded earlier, or a few
// instructions later, comes with it.
struct LoadWaits {
  double waits = 0, waited_bytes = 0;
  uint32_t most = 0;  // the instruction that waits most often
};
// `runs`: by block; `lanes`: that a load moves distinct bytes for.
LoadWaits waits_of(const KernelCode& code, const std::vector<double>& runs, double lanes);

// A load inside a loop with tensor-core instructions whose value is needed before most of the turn's tensor
// instructions are issued: it does not overlap them. Of nested loops the innermost with both counts.
struct EarlyConsumer {
  uint32_t load = 0, consumer = 0;  // instructions
  int tensor_before = 0, tensor_in_loop = 0;
};
std::vector<EarlyConsumer> early_consumers(const KernelCode& code, const CodeFlow& flow);

}  // namespace plume::tools
