// What a kernel may ask of memory and how its machine code must be, at the shapes of real networks. Kernels
// that do not keep to it yet are listed with their figures, which may only get better.
#pragma once
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "engine/profiler/gpu_model.h"

namespace plume::tools {

struct GateFigure {
  double value = 0;
  std::string line;    // of the source, where most of it is asked for
  std::string launch;  // "grid 98x1x1, block 256x1x1"
};

// The worst of all launches of a kernel that are large enough to matter.
struct KernelFigures {
  GateFigure sectors{1, "", ""}, wavefronts{1, "", ""};  // over those that the bytes need
  // By the machine code, where it is at hand:
  GateFigure local;  // bytes a thread spills, or 1 where it keeps arrays in local memory
  GateFigure early;  // loads that are needed before the tensor cores are through with a turn
  // KB that an SM has on their way, of launches that memory holds up.
  GateFigure in_flight{std::numeric_limits<double>::infinity(), "", ""};
};
using KernelTable = std::map<std::string, KernelFigures>;  // by short name

struct GateOptions {
  double larger = 1;  // judges whether memory holds a launch up as if its grid were so many times as large
};
// `launch` is counted with places.
void add_worst(KernelTable& table, const std::string& name, const CountedLaunch& launch,
               const GpuDescription& gpu, const GateOptions& options = {});

// Figures of kernels that are known to break a gate. Lines "kernel | sectors | wavefronts" of the one text,
// "kernel | local | early | KB in flight" of the other, '-' where there is nothing; '#' begins a remark.
// Throws bad_input, naming the line.
KernelTable read_debts(const std::string& memory, const std::string& code);
// The same two texts for what breaks a gate.
std::pair<std::string, std::string> write_debts(const KernelTable& found);

struct GateScope {
  bool memory = true, code = true;  // which of the figures were found
};
// A line for each figure that is worse than both its gate and its debt, naming kernel, figure, line of the
// source and launch; and one for each debt that has become smaller or is never met, so that the list shrinks.
std::vector<std::string> broken_gates(const KernelTable& found, const KernelTable& debts,
                                      const GateScope& scope = {});

}  // namespace plume::tools
