#include <algorithm>
#include <cstdlib>
#include <memory>

#include "data/images/decoding.h"
#include "data/images/png_reader.h"

namespace {
// The decoder inflates data to their end, wherever that is: what it allocates in one piece is limited to what
// an image of its header's size needs.
thread_local size_t most_allocated = 0;

void* allocate(size_t size) { return size <= most_allocated ? std::malloc(size) : nullptr; }
void* reallocate(void* p, size_t size) { return size <= most_allocated ? std::realloc(p, size) : nullptr; }
}  // namespace

#define STBI_MALLOC(size) allocate(size)
#define STBI_REALLOC(pointer, size) reallocate(pointer, size)
#define STBI_FREE(pointer) std::free(pointer)
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_PNG
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STBI_NO_HDR
#define STBI_MAX_DIMENSIONS (1 << 28)
#include <stb/stb_image.h>

namespace plume::data {

Image decode_png(const PngFile& file, const std::string& name) {
  int width = 0, height = 0, components = 0;
  // Rows of four values of 16 bits and a filter's byte, twice since buffers double; the file itself.
  const size_t pixels = size_t(file.width) * size_t(file.height), filters = size_t(file.height) * 7;
  most_allocated = 2 * std::max(pixels * 8 + filters, file.bytes.size()) + (1 << 16);
  const std::unique_ptr<stbi_uc, decltype(&stbi_image_free)> decoded(
      stbi_load_from_memory(file.bytes.data(), int(file.bytes.size()), &width, &height, &components, 3),
      stbi_image_free);
  if (!decoded || width != file.width || height != file.height) {
    const char* reason = stbi_failure_reason();
    reject(name, "PNG cannot be decoded: {}", reason && *reason ? reason : "no reason given");
  }
  return {height, width, {decoded.get(), decoded.get() + pixels * 3}};
}

}  // namespace plume::data
