#include "data/images/image.h"

#include "data/images/bmp.h"
#include "data/images/decoding.h"
#include "data/images/image_format.h"
#include "data/images/jpeg.h"
#include "data/images/png_reader.h"
#include "data/images/pnm.h"
#include "engine/files/read_file.h"

namespace plume::data {
namespace {

constexpr const char* kExpected = "a JPEG, PNG, BMP or PPM image";

}  // namespace

Image decode_image(Bytes bytes, const std::string& name, const DecodeOptions& options) {
  if (int64_t(bytes.size()) > kMostImageBytes)
    reject(name, "has {} bytes, expected at most {}", bytes.size(), kMostImageBytes);
  switch (image_format(bytes)) {
    case ImageFormat::jpeg:
      if (options.own_decoders || !libjpeg_version()) return decode_jpeg(bytes, name);
      return decode_jpeg_turbo(bytes, name, options.least_side);
    case ImageFormat::png: {
      const PngFile file = read_png(bytes, name);
      return options.own_decoders || !spng_version() ? decode_png(file, name) : decode_png_spng(file, name);
    }
    case ImageFormat::bmp:
      return decode_bmp(bytes, name);
    case ImageFormat::pnm:
      return decode_pnm(bytes, name);
    case ImageFormat::unreadable:
      break;
  }
  const char* content = unreadable_content(bytes);
  reject(name, "holds {}, expected {}", content ? content : "something else", kExpected);
}

Image load_image(const std::string& path, const DecodeOptions& options) {
  return decode_image(read_small_file(path, kMostImageBytes, kExpected), path, options);
}

std::string image_decoders() {
  const std::string jpeg = libjpeg_version() ? message("libjpeg-turbo {}", libjpeg_version()) : "own JPEG";
  const std::string png = spng_version() ? message("libspng {}", spng_version()) : "stb_image";
  return message("{}, {}", jpeg, png);
}

}  // namespace plume::data
