// The JSON text at the head of a safetensors file.
#pragma once
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "engine/serialization/safetensors.h"

namespace plume {

struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;  // in the order of the text
  std::map<std::string, std::string> metadata;
};

// Throws bad_input, InvalidHeader or InvalidHeaderDeserialization, naming `path`. Needs memory in proportion
// to the text, and no stack in proportion to its nesting. Says nothing about offsets and sizes.
SafetensorsHeader parse_safetensors_header(const std::string& text, const std::string& path);

// Well-formed UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF. Gives the offset of the first
// byte that is not, or npos.
size_t find_invalid_utf8(std::string_view text);

}  // namespace plume
