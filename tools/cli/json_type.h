// The type of JSON values without the library's definitions, which take a second to compile.
#pragma once
#include <nlohmann/json_fwd.hpp>

namespace plume::tools {

using Json = nlohmann::ordered_json;  // keys stay in order

}  // namespace plume::tools
