// What the GPU's compiler says about kernels: the table that tools/kernel_report.sh prints.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "engine/profiler/kernel_counts.h"

namespace plume::tools {

struct CompiledKernel {
  double registers = 0, spilled_bytes = 0;
};
// By the kernel's short name. Throws bad_input, naming the line, where the file is not such a table, and
// usage where it has nothing for the architecture ("90").
std::map<std::string, CompiledKernel> read_kernel_report(const std::string& path, const std::string& arch);

// The name that the table gives a kernel of the simt device: without namespaces, casts and spaces that vary.
std::string short_kernel_name(const std::string& kernel);

// Fills in the registers of those launches that the table knows; returns how many it does not.
size_t set_registers(std::vector<CountedLaunch>& launches,
                     const std::map<std::string, CompiledKernel>& report);

}  // namespace plume::tools
