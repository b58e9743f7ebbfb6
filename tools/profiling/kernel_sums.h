// Counted launches, summed by kernel and grid: what a GPU's own profiler lists, and can be held against it.
#pragma once
#include <array>
#include <string>
#include <vector>

#include "engine/profiler/kernel_counts.h"
#include "tools/cli/json.h"

namespace plume::tools {

struct KernelSum {
  std::string kernel;  // its short name
  std::array<unsigned, 3> grid{}, block{};
  int64_t launches = 0;
  KernelCounts counts;  // of all blocks of all launches
};
// In the order in which they were first launched.
std::vector<KernelSum> sum_by_kernel(const std::vector<CountedLaunch>& launches);

Json to_json(const std::vector<KernelSum>& kernels);

}  // namespace plume::tools
