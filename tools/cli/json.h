// JSON from text and to text, compiled once. Headers that only name the type include json_type.h.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "tools/cli/json_type.h"

namespace plume::tools {

// Deeper values are refused: to copy or print them would need as deep a stack.
inline constexpr int kMostJsonDepth = 16;

// Throws bad_input, naming `source`, where the text is no JSON or nested too deep.
Json parse_json(std::string_view text, const std::string& source);
// Null where the text is no JSON or nested too deep.
Json parse_json_or_null(std::string_view text);

// For messages: in ASCII, cut off after 40 characters.
std::string brief_text(const Json& json);

// Bytes that are not UTF-8 become U+FFFD. On one line, or indented by `indent`.
std::string to_text(const Json& json, int indent = -1);

}  // namespace plume::tools
