// What the decoders of image files share.
#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "data/images/image.h"
#include "engine/core/error.h"

namespace plume::data {

using Bytes = std::span<const uint8_t>;

template <class... Args>
[[noreturn]] void reject(const std::string& name, std::string_view pattern, const Args&... args) {
  fail(ErrorKind::bad_input, "{}: {}", name, message(pattern, args...));
}

// Before anything of the image's size is allocated. `kind`: "PNG".
inline void check_size(const std::string& name, const char* kind, int64_t width, int64_t height) {
  if (width <= 0 || height <= 0 || width > kMostImagePixels / height)
    reject(name, "{} of {}x{} pixels, expected 1 to {} of them", kind, width, height, kMostImagePixels);
}

// The same for a format whose files cannot hold more than this many pixels in a byte, so that a few bytes
// do not ask for gigabytes.
inline void check_density(const std::string& name, const char* kind, int64_t width, int64_t height,
                          size_t bytes, int64_t most_per_byte) {
  check_size(name, kind, width, height);
  if (width * height / most_per_byte > int64_t(bytes))
    reject(name, "{} of {}x{} pixels in {} bytes, in which at most {} can be", kind, width, height, bytes,
           int64_t(bytes) * most_per_byte);
}

}  // namespace plume::data
