// Pictures that the scripts in tests/fixtures draw alike, and the hash by which they are compared.
#pragma once
#include <string>
#include <vector>

#include "data/images/image.h"

namespace plume::test {

// noise: the upper bytes of a linear congruential generator; black_white: the same, 0 or 255; dark: noise
// between 40 and 71; smooth: ramps; constant: one colour.
inline data::Image draw(const std::string& content, int height, int width) {
  data::Image image{height, width, {}};
  uint32_t state = uint32_t(height) * 65536u + uint32_t(width);
  const uint8_t colour[] = {10, 128, 250};
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < 3; ++c) {
        state = state * 1664525u + 1013904223u;
        const auto noise = uint8_t(state >> 24);
        image.pixels.push_back(content == "smooth"        ? uint8_t(3 * y + 5 * x + 80 * c)
                               : content == "black_white" ? (noise < 128 ? 0 : 255)
                               : content == "dark"        ? uint8_t(noise / 8 + 40)
                               : content == "constant"    ? colour[c]
                                                          : noise);
      }
  return image;
}

inline uint64_t fnv1a(const std::vector<uint8_t>& bytes) {
  uint64_t h = 0xCBF29CE484222325u;
  for (const uint8_t b : bytes) h = (h ^ b) * 0x100000001B3u;
  return h;
}

}  // namespace plume::test
