// JPEG pixels as libjpeg-turbo gives them, on which the numbers of pretrained networks rest: by that library,
// or by a decoder of our own.
#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "data/images/image.h"

namespace plume::data {

// Byte for byte what libjpeg-turbo's defaults give (accurate integer transform, smooth upsampling of
// colours), without it: baseline and progressive with Huffman coding. Complete files only, which must reach
// their end marker; of damaged data something else may be made. Throws bad_input, naming `name`.
Image decode_jpeg(std::span<const uint8_t> bytes, const std::string& name);

// Throws bad_input where a marker segment of the file is not what decode_jpeg() can be trusted with.
void check_jpeg_segments(std::span<const uint8_t> bytes, const std::string& name);

// The version of the library that is built in, null where none is.
const char* libjpeg_version();

// By libjpeg-turbo, which must be there, with the settings of Pillow: arithmetic coding too, and damaged
// data wherever Pillow shows it. `least_side`: see DecodeOptions. Throws bad_input, naming `name`, and
// resource where the library finds no memory.
Image decode_jpeg_turbo(std::span<const uint8_t> bytes, const std::string& name, int64_t least_side = 0);

// More pixels than this in a byte no JPEG has: one bit at least stands for each block of 8x8.
inline constexpr int64_t kMostJpegPixelsPerByte = 512;
// Progressive scans; ordinary files have ten. Each may be tiny and take the time of all blocks.
inline constexpr int kMostJpegScans = 500;

// A row of four bytes a pixel as Adobe's programs write them, inverted, to RGB with the roundings of Pillow.
void cmyk_to_rgb(const uint8_t* cmyk, int width, uint8_t* rgb);

}  // namespace plume::data
