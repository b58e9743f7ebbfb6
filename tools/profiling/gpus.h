// The GPUs that predictions can be made for: tools/profiling/gpus/*.json, embedded by CMake.
#pragma once
#include <string>
#include <string_view>

#include "engine/profiler/gpu_model.h"

namespace plume::tools {

std::string_view gpu_file(std::string_view name);  // its text; empty when there is none
std::string_view gpu_names();                      // "a100, h100, ..."

// By name, or from a file of the same form. Throws usage when it is neither, bad_input where the file does
// not say all that is asked, or says something else.
GpuDescription find_gpu(const std::string& name_or_file);

}  // namespace plume::tools
