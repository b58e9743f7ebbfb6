#include "engine/serialization/weight_faults.h"

#include <algorithm>
#include <utility>

#include "engine/core/error.h"
#include "engine/core/text.h"
#include "engine/serialization/safetensors.h"

namespace plume {

std::string some_names(const std::vector<std::string>& names, size_t count) {
  std::vector<std::string> quoted;
  for (size_t i = 0; i < std::min(names.size(), kBriefNames); ++i) quoted.push_back(in_quotes(names[i]));
  return brief_list(quoted, "", std::max(names.size(), count));
}

void WeightFaults::add(const char* kind, const std::string& what) {
  auto& [count, first] = kinds_[kind];
  if (++count <= kBriefNames) first.push_back(what);
}

void WeightFaults::fail(const std::string& path, const std::string& hint, const std::string& verdict) const {
  const size_t each = std::max<size_t>(1, kBriefNames / kinds_.size());
  std::string all;
  for (const char* kind : {"MissingTensor", "UnexpectedTensor", "ShapeMismatch", "UnsupportedDtype"}) {
    const auto found = kinds_.find(kind);
    if (found == kinds_.end()) continue;
    const auto& [count, first] = found->second;
    all += message("{}{} ({}): {}", all.empty() ? "" : "; ", kind, count, brief_list(first, "", count, each));
  }
  plume::fail(ErrorKind::bad_input, "{}: {}: {}{}{}", path, verdict, all, hint.empty() ? "" : "; ", hint);
}

}  // namespace plume
