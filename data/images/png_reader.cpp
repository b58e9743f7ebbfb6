#include "data/images/png_reader.h"

#include <array>
#include <string_view>

#include "data/images/decoding.h"

namespace plume::data {
namespace {

constexpr size_t kSignatureSize = 8, kHeaderSize = 13;
constexpr int64_t kMostInflated = 1032;  // bytes from a byte of deflated data

uint32_t big_endian32(Bytes bytes, size_t at) {
  return uint32_t(bytes[at]) << 24 | uint32_t(bytes[at + 1]) << 16 | uint32_t(bytes[at + 2]) << 8 |
         bytes[at + 3];
}

// CRC-32 of the PNG specification (ISO/IEC 15948, annex D), eight bytes at a time.
using CrcTables = std::array<std::array<uint32_t, 256>, 8>;
CrcTables make_crc_tables() {
  CrcTables t{};
  for (uint32_t n = 0; n < 256; ++n) {
    uint32_t c = n;
    for (int bit = 0; bit < 8; ++bit) c = c & 1 ? 0xEDB88320u ^ c >> 1 : c >> 1;
    t[0][n] = c;
  }
  for (size_t k = 1; k < 8; ++k)
    for (size_t n = 0; n < 256; ++n) t[k][n] = t[k - 1][n] >> 8 ^ t[0][t[k - 1][n] & 255];
  return t;
}
void append_number(std::vector<uint8_t>& to, uint32_t x) {
  for (int shift = 24; shift >= 0; shift -= 8) to.push_back(uint8_t(x >> shift));
}
void append_chunk(std::vector<uint8_t>& to, std::string_view type, Bytes data) {
  append_number(to, uint32_t(data.size()));
  const size_t start = to.size();
  to.insert(to.end(), type.begin(), type.end());
  to.insert(to.end(), data.begin(), data.end());
  append_number(to, png_checksum(Bytes(to).subspan(start)));
}

struct Header {
  int64_t width, height;
  int depth, kind, interlaced;
};

Header read_header(Bytes data, const std::string& name) {
  if (data.size() != kHeaderSize) reject(name, "PNG header of {} bytes, expected 13", data.size());
  const Header h{big_endian32(data, 0), big_endian32(data, 4), data[8], data[9], data[12]};
  check_size(name, "PNG", h.width, h.height);
  const bool small = h.depth == 1 || h.depth == 2 || h.depth == 4, large = h.depth == 16;
  const bool known = (h.kind == 0 && (small || h.depth == 8 || large)) ||
                     (h.kind == 3 && (small || h.depth == 8)) ||
                     ((h.kind == 2 || h.kind == 4 || h.kind == 6) && (h.depth == 8 || large));
  if (!known) reject(name, "PNG with {} bits of colour type {}, which no PNG has", h.depth, h.kind);
  if (data[10] != 0 || data[11] != 0 || h.interlaced > 1)
    reject(name, "PNG with compression {}, filter {} and interlacing {}, expected 0, 0 and 0 or 1", data[10],
           data[11], data[12]);
  return h;
}

// The size of the data before they are compressed, without the few bytes that begin each row.
int64_t raw_size(const Header& h) {
  constexpr int kValues[] = {1, 0, 3, 1, 2, 0, 4};
  return h.width * h.height * kValues[h.kind] * h.depth / 8;
}

std::vector<uint8_t> full_palette(Bytes named, int depth) {
  std::vector<uint8_t> palette;
  for (size_t i = 0; i < size_t(3) << depth; ++i)
    palette.push_back(i < named.size() ? named[i] : uint8_t(i / 3));
  return palette;
}

}  // namespace

uint32_t png_checksum(Bytes bytes) {
  static const CrcTables t = make_crc_tables();
  uint32_t crc = 0xFFFFFFFFu;
  size_t i = 0;
  for (; i + 8 <= bytes.size(); i += 8) {
    const uint8_t* b = bytes.data() + i;
    const uint32_t low = crc ^ (b[0] | uint32_t(b[1]) << 8 | uint32_t(b[2]) << 16 | uint32_t(b[3]) << 24);
    crc = t[7][low & 255] ^ t[6][low >> 8 & 255] ^ t[5][low >> 16 & 255] ^ t[4][low >> 24] ^ t[3][b[4]] ^
          t[2][b[5]] ^ t[1][b[6]] ^ t[0][b[7]];
  }
  for (; i < bytes.size(); ++i) crc = t[0][(crc ^ bytes[i]) & 255] ^ crc >> 8;
  return ~crc;
}

PngFile read_png(Bytes bytes, const std::string& name) {
  Bytes header_data, palette;
  Header header{};
  std::vector<uint8_t> data;
  bool any = false;
  for (size_t at = kSignatureSize;;) {
    if (bytes.size() - at < 12) {
      if (any) break;
      reject(name, "PNG ends at byte {}, before its image data", bytes.size());
    }
    const size_t length = big_endian32(bytes, at);
    const std::string_view type(reinterpret_cast<const char*>(bytes.data()) + at + 4, 4);
    if (any && type != "IDAT") break;
    if (length > bytes.size() - at - 12)
      reject(name, "PNG chunk at byte {} has {} bytes, the file has {} left", at, length,
             bytes.size() - at - 12);
    if (png_checksum(bytes.subspan(at + 4, length + 4)) != big_endian32(bytes, at + 8 + length))
      reject(name, "PNG chunk at byte {} has a wrong checksum", at);
    const Bytes content = bytes.subspan(at + 8, length);
    if (header_data.empty() != (type == "IHDR"))
      reject(name, "PNG chunk at byte {} is {}, expected one IHDR, at the start", at,
             type == "IHDR" ? "a second IHDR" : "another");
    if (type == "IEND") reject(name, "PNG without image data");
    if (type == "IHDR") header = read_header(header_data = content, name);
    if (type == "PLTE") palette = content;
    if (type == "IDAT") {
      any = true;
      data.insert(data.end(), content.begin(), content.end());
    }
    at += length + 12;
  }
  if (data.empty()) reject(name, "PNG without image data");
  if (raw_size(header) / kMostInflated > int64_t(data.size()))
    reject(name, "PNG of {}x{} pixels in {} bytes, fewer than so many take", header.width, header.height,
           data.size());

  PngFile file{int(header.width), int(header.height), {}};
  file.bytes.reserve(data.size() + 1024);
  file.bytes.assign(bytes.begin(), bytes.begin() + kSignatureSize);
  append_chunk(file.bytes, "IHDR", header_data);
  if (header.kind == 3) append_chunk(file.bytes, "PLTE", full_palette(palette, header.depth));
  append_chunk(file.bytes, "IDAT", data);
  append_chunk(file.bytes, "IEND", {});
  return file;
}

}  // namespace plume::data
