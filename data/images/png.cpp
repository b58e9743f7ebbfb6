#include "data/images/png.h"

#include "engine/core/error.h"

#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
#include <stb/stb_image_write.h>

namespace plume::data {
namespace {

void append(void* to, void* bytes, int size) {
  static_cast<std::string*>(to)->append(static_cast<const char*>(bytes), size_t(size));
}

}  // namespace

std::string encode_png(const Image& image) {
  const size_t wanted = size_t(image.height) * size_t(image.width) * 3;
  PLUME_CHECK(image.height > 0 && image.width > 0 && image.pixels.size() == wanted,
              "png: {} bytes for {}x{} pixels", image.pixels.size(), image.height, image.width);
  std::string bytes;
  if (!stbi_write_png_to_func(append, &bytes, image.width, image.height, 3, image.pixels.data(), 0))
    fail(ErrorKind::resource, "png: no memory to compress {}x{} pixels", image.height, image.width);
  return bytes;
}

}  // namespace plume::data
