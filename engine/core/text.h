// Small helpers for messages.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace plume {

// The candidate with the smallest edit distance to `word`; empty when there are none.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace plume
