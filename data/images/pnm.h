// The portable bitmaps, greymaps and pixmaps of Netpbm.
#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "data/images/image.h"

namespace plume::data {

// P1 to P6 with a greatest value of up to 65535: a value v of at most m becomes 255 v / m, rounded to the
// nearest, to the even one in the middle. The pixels of Pillow, except for grey of more than 8 bits, which it
// clips to white. Throws bad_input, naming `name`.
Image decode_pnm(std::span<const uint8_t> bytes, const std::string& name);

}  // namespace plume::data
