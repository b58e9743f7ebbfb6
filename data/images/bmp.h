// Windows bitmaps.
#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "data/images/image.h"

namespace plume::data {

// 1, 4 and 8 bits with a palette, also run-length coded; 16 bits as 5-5-5 or 5-6-5; 24 bits; 32 bits with
// each colour in a byte. Bottom-up or top-down, with the headers of Windows and OS/2. The pixels of Pillow,
// also where the palette is too short: the other colours are grey. Throws bad_input, naming `name`.
Image decode_bmp(std::span<const uint8_t> bytes, const std::string& name);

}  // namespace plume::data
