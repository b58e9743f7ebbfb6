// The name of a kernel, taken from the name that the compiler gives to launch<kernel>.
#pragma once
#include <cstddef>
#include <string_view>

namespace simt {

// pretty is __PRETTY_FUNCTION__ of a template whose kernel parameter is called kKernel:
// "... [with auto kKernel = ns::scale<float>; Args = {float*}]" gives "ns::scale<float>".
constexpr std::string_view kernel_name(std::string_view pretty) {
  constexpr std::string_view kKey = "kKernel = ";
  const size_t found = pretty.find(kKey);
  if (found == std::string_view::npos) return pretty;
  std::string_view rest = pretty.substr(found + kKey.size());
  if (rest.starts_with('&')) rest.remove_prefix(1);
  int depth = 0;
  for (size_t i = 0; i < rest.size(); ++i) {
    const char c = rest[i];
    if (c == '<' || c == '(' || c == '{' || c == '[') ++depth;
    if (depth == 0 && (c == ';' || c == ',' || c == ']')) return rest.substr(0, i);
    if (c == '>' || c == ')' || c == '}' || c == ']') --depth;
  }
  return rest;
}

}  // namespace simt
