#include "engine/serialization/weight_faults.h"

#include <algorithm>
#include <utility>

#include "engine/core/error.h"
#include "engine/core/text.h"
#include "engine/serialization/safetensors.h"

namespace plume {

namespace {

// At most `most` of what may be the first of `count`.
std::string brief_list_of(std::vector<std::string> names, size_t most, size_t count) {
  names.resize(std::min(names.size(), most));
  const size_t left = count - names.size();
  return brief_list(names, "") + (left > 0 ? message(" and {} more", left) : "");
}

}  // namespace

std::string some_names(const std::vector<std::string>& names, size_t count) {
  constexpr size_t kMostNames = WeightFaults::kMostNames;
  std::vector<std::string> quoted;
  for (size_t i = 0; i < std::min(names.size(), kMostNames); ++i) quoted.push_back(in_quotes(names[i]));
  return brief_list_of(std::move(quoted), kMostNames, std::max(names.size(), count));
}

void WeightFaults::add(const char* kind, const std::string& what) {
  auto& [count, first] = kinds_[kind];
  if (++count <= kMostNames) first.push_back(what);
}

void WeightFaults::fail(const std::string& path, const std::string& hint, const std::string& verdict) const {
  const size_t each = std::max<size_t>(1, kMostNames / kinds_.size());
  std::string all;
  for (const char* kind : {"MissingTensor", "UnexpectedTensor", "ShapeMismatch", "UnsupportedDtype"}) {
    const auto found = kinds_.find(kind);
    if (found == kinds_.end()) continue;
    const auto& [count, first] = found->second;
    all += message("{}{} ({}): {}", all.empty() ? "" : "; ", kind, count, brief_list_of(first, each, count));
  }
  plume::fail(ErrorKind::bad_input, "{}: {}: {}{}{}", path, verdict, all, hint.empty() ? "" : "; ", hint);
}

}  // namespace plume
