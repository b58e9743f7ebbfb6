// Small helpers for messages.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace plume {

// The candidate with the smallest edit distance to `word`; empty when there are none.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

// Control characters as \n, \t or \x1b, so that a name from a disk stays on its line and steers no terminal.
std::string printable(std::string_view text);

inline constexpr size_t kBriefNames = 5;

// "'a', 'b', 'c', 'd', 'e' and 7 more": at most `most` names, printable, each between two of `quote`. `names`
// may be the first of `count`.
std::string brief_list(const std::vector<std::string>& names, std::string_view quote = "'", size_t count = 0,
                       size_t most = kBriefNames);

}  // namespace plume
