// What a run was made with: the machine, its devices, libraries and this program.
#pragma once
#include "engine/core/device.h"
#include "tools/cli/json_type.h"

namespace plume::tools {

// The git revision that was built, with "+" when files were changed; "unknown" outside of git.
std::string git_revision();
Json describe_environment(Device device);

}  // namespace plume::tools
