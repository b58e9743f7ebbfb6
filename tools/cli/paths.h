// Paths as a run remembers them.
#pragma once
#include <string>

namespace plume::tools {

// The path from the root, so that it means the same from any working folder; an empty one stays
// empty, and any stays as it is where the working folder is gone.
std::string absolute_path(const std::string& path);

// Whether bytes of a name that were no UTF-8 have been lost: JSON holds U+FFFD for them.
bool has_lost_bytes(const std::string& path);

}  // namespace plume::tools
