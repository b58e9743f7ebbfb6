// Names of tensors against those that a network wants.
#pragma once
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace plume {

using Names = std::set<std::string, std::less<>>;

// Without the components "module" and "_orig_mod", which are noted in `removed`; as it is where the network
// has that very name.
std::string without_wrappers(const std::string& name, const Names& wanted, Names& removed);

// The prefixes ("", "model.", "student.") under which most of the wanted names are found; several where they
// are found equally often. Just "" where not even half of them are found.
std::vector<std::string> best_prefixes(const std::vector<std::string>& names, const Names& wanted);

// Whether a shell's pattern fits the whole name: '*' also stands for dots.
bool matches(const std::string& pattern, const std::string& name);

}  // namespace plume
