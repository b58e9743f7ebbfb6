// What `profile` writes for programs: JSON and CSV.
#pragma once
#include <string>

#include "tools/cli/json_type.h"
#include "tools/profiling/prediction.h"
#include "tools/profiling/profile.h"

namespace plume::tools {

Json to_json(const ProfileReport& report, const Ceilings& ceilings);
// One line per call, and a last one for what is outside of all.
std::string to_csv(const ProfileReport& report, const Ceilings& ceilings);
// A call whose launches were counted, with those of calls nested in it: a row as above, and its kernels.
Json to_json(const CountedPass& pass, size_t call, const ProfileRequest& request, const GpuDescription& gpu);

}  // namespace plume::tools
