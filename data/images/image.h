// Images from JPEG and PNG files.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace plume::data {

struct Image {
  int height = 0, width = 0;
  std::vector<uint8_t> pixels;  // [height, width, 3], RGB; grey is repeated, alpha dropped
};

inline constexpr int64_t kMostImageBytes = 64 << 20;   // of a file
inline constexpr int64_t kMostImagePixels = 16 << 20;  // height x width

// Baseline and progressive JPEG with 8 bits and 1 or 3 components, PNG. Complete files only: every PNG
// checksum must match and a JPEG must reach its end marker. `name` is for messages: throws bad_input, naming
// it and the reason.
Image decode_image(std::span<const uint8_t> bytes, const std::string& name);
Image load_image(const std::string& path);

}  // namespace plume::data
