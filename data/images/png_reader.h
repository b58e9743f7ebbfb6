// PNG files: their chunks, and two decoders of what is in them.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/images/image.h"

namespace plume::data {

struct PngFile {
  int width = 0, height = 0;
  // The file again with nothing but what the pixels need: a header, 2^depth colours of a palette, those data
  // and an end. Colours that the file does not name are grey, as with Pillow.
  std::vector<uint8_t> bytes;
};

// Walks the chunks up to the last of the first run of image data; whatever follows that is damaged or missing
// changes no pixel. Throws bad_input, naming `name`, where a chunk before is cut short or has a wrong
// checksum, and where so few bytes cannot hold so large an image.
PngFile read_png(std::span<const uint8_t> bytes, const std::string& name);

// CRC-32 as a chunk ends with it, of its type and data.
uint32_t png_checksum(std::span<const uint8_t> bytes);

// By stb_image. Both throw bad_input, naming `name`, where pixels are missing or the data damaged.
Image decode_png(const PngFile& file, const std::string& name);

// The version of libspng that is built in, null where none is; it must be for the decoder.
const char* spng_version();
Image decode_png_spng(const PngFile& file, const std::string& name);

}  // namespace plume::data
