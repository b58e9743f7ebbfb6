#include "data/images/bmp.h"

#include <algorithm>
#include <array>
#include <cstdlib>

#include "data/images/decoding.h"

namespace plume::data {
namespace {

constexpr size_t kFileHeaderSize = 14;
enum Compression : uint32_t { kRaw = 0, kRle8 = 1, kRle4 = 2, kMasks = 3 };

uint32_t little16(Bytes bytes, size_t at) { return bytes[at] | uint32_t(bytes[at + 1]) << 8; }
uint32_t little32(Bytes bytes, size_t at) { return little16(bytes, at) | little16(bytes, at + 2) << 16; }

struct Bitmap {
  int64_t width = 0, height = 0;
  bool top_down = false;
  uint32_t bits = 0, compression = kRaw;
  std::array<uint32_t, 3> masks{};  // red, green, blue
  std::array<std::array<uint8_t, 3>, 256> palette{};
  size_t pixels_at = 0;
};

// Red, green and blue of each kind of pixel that comes without masks.
constexpr std::array<uint32_t, 3> kMasks555{0x7C00, 0x03E0, 0x001F}, kMasks565{0xF800, 0x07E0, 0x001F},
    kMasks888{0xFF0000, 0x00FF00, 0x0000FF};

void check_masks(Bitmap& bitmap, const std::string& name) {
  const bool whole_bytes = std::all_of(bitmap.masks.begin(), bitmap.masks.end(), [](uint32_t mask) {
    return mask == 0xFF || mask == 0xFF00 || mask == 0xFF0000 || mask == 0xFF000000;
  });
  if (bitmap.bits == 32 && bitmap.masks == std::array<uint32_t, 3>{})
    bitmap.masks = kMasks888;
  else if (bitmap.bits == 16   ? bitmap.masks != kMasks555 && bitmap.masks != kMasks565
           : bitmap.bits == 24 ? bitmap.masks != kMasks888
                               : bitmap.bits != 32 || !whole_bytes)
    reject(name, "BMP of {} bits with the masks {}, {} and {} is not supported", bitmap.bits, bitmap.masks[0],
           bitmap.masks[1], bitmap.masks[2]);
}

// `at`: where the header ends. The colours of a palette are in the order blue, green, red.
void read_palette(Bytes bytes, size_t at, size_t colours, size_t entry, Bitmap& bitmap) {
  for (size_t i = 0; i < 256; ++i) bitmap.palette[i].fill(uint8_t(i));
  for (size_t i = 0; i < colours && at + entry <= bytes.size(); ++i, at += entry)
    bitmap.palette[i] = {bytes[at + 2], bytes[at + 1], bytes[at]};
}

Bitmap read_headers(Bytes bytes, const std::string& name) {
  const auto ends = [&] { reject(name, "BMP ends at byte {}, in its header", bytes.size()); };
  if (bytes.size() < kFileHeaderSize + 12) ends();
  const Bytes header = bytes.subspan(kFileHeaderSize);
  const size_t size = little32(header, 0);
  constexpr std::array<size_t, 7> kSizes{12, 40, 52, 56, 64, 108, 124};
  if (std::find(kSizes.begin(), kSizes.end(), size) == kSizes.end())
    reject(name, "BMP header of {} bytes, expected 12, 40, 52, 56, 64, 108 or 124", size);
  if (header.size() < size) ends();

  Bitmap bitmap;
  size_t colours = 0, after = kFileHeaderSize + size;
  if (size == 12) {
    bitmap.width = little16(header, 4);
    bitmap.height = little16(header, 6);
    bitmap.bits = little16(header, 10);
    bitmap.masks = bitmap.bits == 16 ? kMasks555 : kMasks888;
  } else {
    bitmap.width = int32_t(little32(header, 4));
    const int64_t height = int32_t(little32(header, 8));
    bitmap.height = std::abs(height);
    bitmap.top_down = height < 0;
    bitmap.bits = little16(header, 14);
    bitmap.compression = little32(header, 16);
    colours = little32(header, 32);
    bitmap.masks = bitmap.bits == 16 ? kMasks555 : kMasks888;
    if (bitmap.compression == kMasks) {
      const size_t at = kFileHeaderSize + 40;  // in the header, or behind a short one
      if (bytes.size() < at + 12) ends();
      bitmap.masks = {little32(bytes, at), little32(bytes, at + 4), little32(bytes, at + 8)};
      if (size == 40) after += 12;
      check_masks(bitmap, name);
    }
  }
  check_size(name, "BMP", bitmap.width, bitmap.height);
  const uint32_t bits = bitmap.bits, compression = bitmap.compression;
  const bool with_palette = bits == 1 || bits == 4 || bits == 8;
  if (!with_palette && bits != 16 && bits != 24 && bits != 32)
    reject(name, "BMP of {} bits is not supported, expected 1, 4, 8, 16, 24 or 32", bits);
  const bool fits = compression == kRaw || compression == kMasks || (compression == kRle8 && bits == 8) ||
                    (compression == kRle4 && bits == 4);
  if (!fits) reject(name, "BMP of {} bits with compression {} is not supported", bits, compression);
  if (colours == 0) colours = size_t(1) << std::min(bits, 8u);
  if (with_palette && colours > 256) reject(name, "BMP with {} colours, expected at most 256", colours);
  const size_t entry = size == 12 ? 3 : 4;
  if (with_palette) read_palette(bytes, after, colours, entry, bitmap);
  bitmap.pixels_at = little32(bytes, 10);
  if (with_palette && (bitmap.pixels_at == 0 || bitmap.pixels_at == kFileHeaderSize + size))
    bitmap.pixels_at = after + entry * colours;  // some writers forget their palette
  if (bitmap.pixels_at == 0) bitmap.pixels_at = after;
  if (bitmap.pixels_at > bytes.size())
    reject(name, "BMP ends at byte {}, its pixels begin at {}", bytes.size(), bitmap.pixels_at);
  return bitmap;
}

// A row's indices from 1, 4 or 8 bits each, the upper bits first.
void unpack(const uint8_t* in, uint32_t bits, std::span<uint8_t> out) {
  const uint32_t per_byte = 8 / bits;
  for (size_t x = 0; x < out.size(); ++x)
    out[x] = uint8_t(in[x / per_byte] >> (8 - bits - x % per_byte * bits) & ((1u << bits) - 1));
}

void colour(const Bitmap& bitmap, std::span<const uint8_t> indices, uint8_t* out) {
  for (const uint8_t i : indices) out = std::copy_n(bitmap.palette[i].begin(), 3, out);
}

// A row's pixels of 2, 3 or 4 bytes, through the masks.
void pick(const Bitmap& bitmap, Bytes row, uint8_t* out) {
  const size_t step = bitmap.bits / 8;
  for (int64_t x = 0; x < bitmap.width; ++x) {
    uint32_t pixel = 0;
    for (size_t b = 0; b < step; ++b) pixel |= uint32_t(row[size_t(x) * step + b]) << 8 * b;
    for (const uint32_t mask : bitmap.masks) {
      const uint32_t lowest = mask & (~mask + 1), most = mask / lowest;
      *out++ = uint8_t((pixel & mask) / lowest * 255 / most);
    }
  }
}

// All indices, in the file's order of rows; what the code leaves out is index 0.
std::vector<uint8_t> expand_runs(Bytes code, const Bitmap& bitmap, const std::string& name) {
  const auto ends = [&] { reject(name, "BMP ends before its image is complete"); };
  const auto width = size_t(bitmap.width), height = size_t(bitmap.height);
  const bool nibbles = bitmap.compression == kRle4;
  std::vector<uint8_t> out(width * height);
  size_t x = 0, y = 0;
  const auto put = [&](uint8_t index) {
    if (x < width && y < height) out[y * width + x] = index;
    ++x;
  };
  const auto half = [](uint8_t both, size_t i) { return uint8_t(i % 2 == 0 ? both >> 4 : both & 15); };
  for (size_t at = 0; y < height && !(y + 1 == height && x >= width);) {
    if (code.size() - at < 2) ends();
    const size_t count = code[at];
    const uint8_t value = code[at + 1];
    at += 2;
    if (count > 0) {
      for (size_t i = 0; i < count; ++i) put(nibbles ? half(value, i) : value);
    } else if (value == 0) {
      x = 0;
      ++y;
    } else if (value == 1) {
      ends();
    } else if (value == 2) {
      if (code.size() - at < 2) ends();
      x += code[at];
      y += code[at + 1];
      at += 2;
    } else {
      const size_t size = nibbles ? (value + 1u) / 2 : value;
      if (code.size() - at < size) ends();
      for (size_t i = 0; i < value; ++i) put(nibbles ? half(code[at + i / 2], i) : code[at + i]);
      at = std::min(at + size + size % 2, code.size());
    }
  }
  return out;
}

}  // namespace

Image decode_bmp(Bytes bytes, const std::string& name) {
  const Bitmap bitmap = read_headers(bytes, name);
  const Bytes data = bytes.subspan(bitmap.pixels_at);
  const auto width = size_t(bitmap.width), height = size_t(bitmap.height);
  const bool runs = bitmap.compression == kRle8 || bitmap.compression == kRle4;
  const size_t stride = (width * bitmap.bits + 31) / 32 * 4;
  std::vector<uint8_t> indices;
  if (runs) {
    check_density(name, "run-length coded BMP", bitmap.width, bitmap.height, data.size(), 255);
    indices = expand_runs(data, bitmap, name);
  } else {
    // Some writers leave out the bytes that fill up the last row.
    const size_t size = stride * (height - 1) + (width * bitmap.bits + 7) / 8;
    if (data.size() < size)
      reject(name, "BMP of {}x{} pixels has {} bytes of them, expected {}", width, height, data.size(), size);
  }
  Image image{int(height), int(width), std::vector<uint8_t>(width * height * 3)};
  std::vector<uint8_t> row(width);
  for (size_t i = 0; i < height; ++i) {
    uint8_t* out = image.pixels.data() + (bitmap.top_down ? i : height - 1 - i) * width * 3;
    if (runs) {
      colour(bitmap, std::span(indices).subspan(i * width, width), out);
    } else if (bitmap.bits <= 8) {
      unpack(data.data() + i * stride, bitmap.bits, row);
      colour(bitmap, row, out);
    } else {
      pick(bitmap, data.subspan(i * stride), out);
    }
  }
  return image;
}

}  // namespace plume::data
