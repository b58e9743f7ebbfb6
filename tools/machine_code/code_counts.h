// How often the machine code of a kernel ran, from what the emulator counted of its source.
//
// The emulator knows how often a warp loaded, stored, met a barrier or went into a branch at each line; the
// compiler has unrolled loops, doubled, merged and moved what stands there. Blocks of machine code that must
// run equally often (code_flow.h) are unknowns; every line and kind of access is an equation: executions of
// the instructions that the compiler made of it = what was counted there. Least squares, none below zero,
// none above what decides about it. Blocks without accesses run as often as what decides about them, in the
// share that the line's branches say; loops without, as often as what they decide about.
#pragma once
#include <vector>

#include "tools/machine_code/code_flow.h"
#include "tools/machine_code/code_loads.h"
#include "tools/machine_code/machine_code.h"

namespace plume::tools {

// By block of the code: warps of the counted blocks that ran it. `launch` is counted with places.
struct CodeRuns {
  std::vector<double> of_block;
  double matched = 0;  // of the accesses counted, the part whose line the machine code has
};
CodeRuns runs_of(const KernelCode& code, const CodeFlow& flow, const CountedLaunch& launch);

// A kernel's code and what follows from it alone.
struct AnalysedKernel {
  const KernelCode* code = nullptr;
  CodeFlow flow;
};

// Replaces the launch's estimated instructions, of each place and over all, by those of the machine code, and
// fills in `compiled` and the registers.
void count_code(CountedLaunch& launch, const AnalysedKernel& kernel);

// All launches, as far as the folder knows their kernels (by name, of this architecture).
struct CodeCoverage {
  size_t unknown = 0;  // launches
  size_t older = 0;    // launches of kernels whose machine code is older than a source with counted lines
};
CodeCoverage count_code(std::vector<CountedLaunch>& launches, MachineCode& machine_code);

}  // namespace plume::tools
