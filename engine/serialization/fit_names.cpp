#include "engine/serialization/fit_names.h"

#include <fnmatch.h>

#include <algorithm>
#include <map>

namespace plume {
namespace {

constexpr std::string_view kWrappers[] = {"module", "_orig_mod"};

bool is_wrapper(std::string_view component) {
  return std::find(std::begin(kWrappers), std::end(kWrappers), component) != std::end(kWrappers);
}

}  // namespace

std::string without_wrappers(const std::string& name, const Names& wanted, Names& removed) {
  if (wanted.contains(name)) return name;
  std::string kept;
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    const std::string_view component(name.data() + begin, end - begin);
    // The last component is the tensor's own name.
    if (end == name.size() || !is_wrapper(component)) {
      kept += component;
      if (end < name.size()) kept += '.';
    } else {
      removed.emplace(component);
    }
    begin = end + 1;
  }
  return kept;
}

std::vector<std::string> best_prefixes(const std::vector<std::string>& names, const Names& wanted) {
  std::map<std::string_view, size_t> counts;
  for (const std::string& name : names)
    for (size_t begin = 0; begin < name.size();) {
      if (wanted.contains(std::string_view(name).substr(begin)))
        ++counts[std::string_view(name).substr(0, begin)];
      const size_t dot = name.find('.', begin);
      if (dot == std::string::npos) break;
      begin = dot + 1;
    }
  size_t most = 0;
  for (const auto& [prefix, count] : counts) most = std::max(most, count);
  std::vector<std::string> best;
  for (const auto& [prefix, count] : counts)
    if (count == most) best.emplace_back(prefix);
  if (2 * most < wanted.size() || best.empty()) return {""};
  return best;
}

bool matches(const std::string& pattern, const std::string& name) {
  return fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
}

}  // namespace plume
