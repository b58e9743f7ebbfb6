// What kind of image a file is, by its first bytes.
#pragma once
#include <cstdint>
#include <span>

namespace plume::data {

enum class ImageFormat { unreadable, jpeg, png, bmp, pnm };

ImageFormat image_format(std::span<const uint8_t> bytes);

// What it is instead: "a WebP image", or other familiar content; null when nobody knows.
const char* unreadable_content(std::span<const uint8_t> bytes);

}  // namespace plume::data
