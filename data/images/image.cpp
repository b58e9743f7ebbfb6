#include "data/images/image.h"

#include <array>
#include <cstring>
#include <memory>
#include <string_view>

#include "data/images/jpeg.h"
#include "engine/core/error.h"
#include "engine/files/read_file.h"

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_PNG
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STBI_NO_HDR
#define STBI_MAX_DIMENSIONS (1 << 16)
#include <stb/stb_image.h>

namespace plume::data {
namespace {

using Bytes = std::span<const uint8_t>;

constexpr uint8_t kPngSignature[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};

[[noreturn]] void reject(const std::string& name, const std::string& reason) {
  fail(ErrorKind::bad_input, "{}: {}", name, reason);
}

uint32_t big_endian(Bytes bytes, size_t at, size_t count) {
  uint32_t value = 0;
  for (size_t i = 0; i < count; ++i) value = value << 8 | bytes[at + i];
  return value;
}

// CRC-32 of the PNG specification (ISO/IEC 15948, annex D).
uint32_t crc32(Bytes bytes) {
  static const std::array<uint32_t, 256> table = [] {
    std::array<uint32_t, 256> t{};
    for (uint32_t n = 0; n < 256; ++n) {
      uint32_t c = n;
      for (int bit = 0; bit < 8; ++bit) c = c & 1 ? 0xEDB88320u ^ c >> 1 : c >> 1;
      t[n] = c;
    }
    return t;
  }();
  uint32_t crc = 0xFFFFFFFFu;
  for (const uint8_t b : bytes) crc = table[(crc ^ b) & 255] ^ crc >> 8;
  return ~crc;
}

// The decoder ignores checksums and forgives a missing end, so the chunks are walked here.
void check_png(Bytes bytes, const std::string& name) {
  for (size_t at = sizeof kPngSignature;;) {
    if (bytes.size() - at < 12)
      reject(name, message("PNG ends at byte {}, before its IEND chunk", bytes.size()));
    const size_t length = big_endian(bytes, at, 4);
    if (length > bytes.size() - at - 12)
      reject(name, message("PNG chunk at byte {} has {} bytes, the file has {} left", at, length,
                           bytes.size() - at - 12));
    if (crc32(bytes.subspan(at + 4, length + 4)) != big_endian(bytes, at + 8 + length, 4))
      reject(name, message("PNG chunk at byte {} has a wrong checksum", at));
    const bool end = std::memcmp(bytes.data() + at + 4, "IEND", 4) == 0;
    at += length + 12;
    if (end) return;
  }
}

// The tables of a Huffman segment (ITU-T T.81, B.2.4.2). Decoders have overrun their arrays on too many
// codes.
void check_huffman(Bytes segment, const std::string& name) {
  for (size_t at = 2; at < segment.size();) {
    size_t codes = 0, space = 0;  // used, of the 2^16 that codes of 16 bits make
    if (segment.size() - at < 17) reject(name, "JPEG Huffman table is cut short");
    for (size_t bits = 1; bits <= 16; ++bits) {
      codes += segment[at + bits];
      space += size_t(segment[at + bits]) << (16 - bits);
    }
    at += 17;
    if (codes > 256 || space > 65536)
      reject(name, message("JPEG Huffman table has {} codes, more than fit", codes));
    if (codes > segment.size() - at) reject(name, "JPEG Huffman table is cut short");
    at += codes;
  }
}

// Walks the marker segments (ITU-T T.81, annex B) to the end marker.
void check_jpeg(Bytes bytes, const std::string& name) {
  const auto ends = [&]() {
    reject(name, message("JPEG ends at byte {}, before its end marker", bytes.size()));
  };
  for (size_t at = 2;;) {
    // Entropy-coded data, fill bytes and restart markers lie before the next marker.
    while (at + 1 < bytes.size() && (bytes[at] != 0xFF || bytes[at + 1] == 0 || bytes[at + 1] == 0xFF ||
                                     (bytes[at + 1] >= 0xD0 && bytes[at + 1] <= 0xD7)))
      ++at;
    if (at + 1 >= bytes.size()) ends();
    const uint8_t marker = bytes[at + 1];
    at += 2;
    if (marker == 0xD9) return;
    if (marker == 0xD8 || marker == 0x01) continue;
    if (bytes.size() - at < 2) ends();
    const size_t length = big_endian(bytes, at, 2);
    if (length < 2) reject(name, message("JPEG segment at byte {} has length {}", at, length));
    if (length > bytes.size() - at) ends();
    if (marker == 0xC4) check_huffman(bytes.subspan(at, length), name);
    const bool frame = marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
    if (frame) {
      if (length < 8) reject(name, message("JPEG frame header at byte {} has length {}", at, length));
      const int precision = bytes[at + 2], components = bytes[at + 7];
      if (marker >= 0xC9) reject(name, "JPEG with arithmetic coding is not supported");
      if (marker > 0xC2) reject(name, "lossless or hierarchical JPEG is not supported");
      if (precision != 8)
        reject(name, message("JPEG with {} bits per value is not supported, expected 8", precision));
      if (components != 1 && components != 3)
        reject(name,
               message("JPEG with {} components (CMYK?) is not supported, expected 1 or 3", components));
    }
    at += length;
  }
}

const char* other_format(Bytes bytes) {
  const std::string_view head(reinterpret_cast<const char*>(bytes.data()),
                              std::min<size_t>(bytes.size(), 16));
  if (head.starts_with("GIF8")) return "a GIF image";
  if (head.starts_with("BM")) return "a BMP image";
  if (head.starts_with("RIFF") && head.substr(8).starts_with("WEBP")) return "a WebP image";
  if (head.starts_with("II*") || head.starts_with(std::string_view("MM\0*", 4))) return "a TIFF image";
  return familiar_content(bytes);
}

Image decode_png(Bytes bytes, const std::string& name) {
  const auto because = [&] {
    const char* reason = stbi_failure_reason();
    return message("PNG cannot be decoded: {}", reason && *reason ? reason : "no reason given");
  };
  const int size = int(bytes.size());
  int width = 0, height = 0, components = 0;
  if (!stbi_info_from_memory(bytes.data(), size, &width, &height, &components)) reject(name, because());
  if (width <= 0 || height <= 0 || int64_t(width) * height > kMostImagePixels)
    reject(name, message("PNG of {}x{} pixels, expected at most {}", width, height, kMostImagePixels));
  const std::unique_ptr<stbi_uc, decltype(&stbi_image_free)> pixels(
      stbi_load_from_memory(bytes.data(), size, &width, &height, &components, 3), stbi_image_free);
  if (!pixels) reject(name, because());
  return {height, width, {pixels.get(), pixels.get() + size_t(width) * size_t(height) * 3}};
}

}  // namespace

Image decode_image(Bytes bytes, const std::string& name) {
  if (int64_t(bytes.size()) > kMostImageBytes)
    reject(name, message("has {} bytes, expected at most {}", bytes.size(), kMostImageBytes));
  const bool png = bytes.size() >= sizeof kPngSignature &&
                   std::memcmp(bytes.data(), kPngSignature, sizeof kPngSignature) == 0;
  const bool jpeg = bytes.size() >= 3 && bytes[0] == 0xFF && bytes[1] == 0xD8 && bytes[2] == 0xFF;
  if (!png && !jpeg) {
    const char* content = bytes.empty() ? "nothing" : other_format(bytes);
    reject(name, message("holds {}, expected a JPEG or PNG image", content ? content : "something else"));
  }
  if (jpeg) {
    check_jpeg(bytes, name);
    return decode_jpeg(bytes, name);
  }
  check_png(bytes, name);
  return decode_png(bytes, name);
}

Image load_image(const std::string& path) {
  return decode_image(read_small_file(path, kMostImageBytes, "a JPEG or PNG image"), path);
}

}  // namespace plume::data
