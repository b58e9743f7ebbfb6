#include "engine/serialization/weight_faults.h"

#include "engine/core/error.h"
#include "engine/serialization/safetensors.h"

namespace plume {
namespace {

std::string joined(const std::vector<std::string>& parts, size_t most, size_t count) {
  std::string text;
  for (size_t i = 0; i < parts.size() && i < most; ++i) text += (i > 0 ? ", " : "") + parts[i];
  return text + (count > most ? ", ..." : "");
}

}  // namespace

std::string some_names(const std::vector<std::string>& names, size_t count) {
  std::vector<std::string> quoted;
  for (size_t i = 0; i < names.size() && i < WeightFaults::kMostNames; ++i)
    quoted.push_back(in_quotes(names[i]));
  return joined(quoted, WeightFaults::kMostNames, count);
}

void WeightFaults::add(const char* kind, const std::string& what) {
  auto& [count, first] = kinds_[kind];
  if (++count <= kMostNames) first.push_back(what);
}

void WeightFaults::fail(const std::string& path, const std::string& hint) const {
  const size_t each = std::max<size_t>(1, kMostNames / kinds_.size());
  std::string all;
  for (const char* kind : {"MissingTensor", "UnexpectedTensor", "ShapeMismatch", "UnsupportedDtype"}) {
    const auto found = kinds_.find(kind);
    if (found == kinds_.end()) continue;
    const auto& [count, first] = found->second;
    all += message("{}{} ({}): {}", all.empty() ? "" : "; ", kind, count, joined(first, each, count));
  }
  plume::fail(ErrorKind::bad_input, "{}: does not fit the model: {}{}{}", path, all, hint.empty() ? "" : "; ",
              hint);
}

}  // namespace plume
