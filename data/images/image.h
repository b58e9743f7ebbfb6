// Images from files.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace plume::data {

struct Image {
  int height = 0, width = 0;
  std::vector<uint8_t> pixels;  // [height, width, 3], RGB; grey is repeated, alpha dropped
};

inline constexpr int64_t kMostImagePixels = 178'956'970;  // height x width, beyond which Pillow refuses too
inline constexpr int64_t kMostImageBytes = 768 << 20;     // of a file: 4 bytes for each of these pixels

struct DecodeOptions {
  // Where it is not 0, a JPEG may be given at 1/2, 1/4 or 1/8 of its size (rounded up): the smallest of them
  // for which the file's shorter side, divided by 2, 4 or 8 and rounded down, is still at least this. Then
  // memory is taken for those pixels only; by a progressive JPEG for its coefficients too, all of them. The
  // pixels are those of Pillow's draft(None, (least_side, least_side)). Other files, and all of them in a
  // build without libjpeg-turbo, come at full size.
  int64_t least_side = 0;
  // With our own decoders, as in a build without libjpeg-turbo and libspng.
  bool own_decoders = false;
};

// JPEG (8 bits; grey, YCbCr, RGB, CMYK, YCCK), PNG, BMP, and PBM, PGM and PPM. The pixels are those of
// Pillow's convert("RGB"), except that of 16-bit grey the upper byte is kept. Files must hold all of their
// pixels, and a PNG's checksums must match up to there. `name` is for messages: throws bad_input, naming it
// and the reason, with other kinds of image by name: "holds a WebP image, expected ...".
Image decode_image(std::span<const uint8_t> bytes, const std::string& name,
                   const DecodeOptions& options = {});
Image load_image(const std::string& path, const DecodeOptions& options = {});

// How files are called that may be readable, and images that are not: lower case, with the dot.
std::span<const std::string_view> readable_extensions();
std::span<const std::string_view> other_image_extensions();

// Which libraries decode: "libjpeg-turbo 2.1.5, libspng 0.7.3".
std::string image_decoders();

}  // namespace plume::data
