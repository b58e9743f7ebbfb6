#include "data/images/decoding.h"
#include "data/images/jpeg.h"

namespace plume::data {
namespace {

size_t big_endian16(Bytes bytes, size_t at) { return size_t(bytes[at]) << 8 | bytes[at + 1]; }

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
    if (codes > 256 || space > 65536) reject(name, "JPEG Huffman table has {} codes, more than fit", codes);
    if (codes > segment.size() - at) reject(name, "JPEG Huffman table is cut short");
    at += codes;
  }
}

void check_frame(Bytes segment, uint8_t marker, size_t at, const std::string& name) {
  if (segment.size() < 8) reject(name, "JPEG frame header at byte {} has length {}", at, segment.size());
  const int precision = segment[2], components = segment[7];
  if (marker >= 0xC9) reject(name, "JPEG with arithmetic coding is not supported");
  if (marker > 0xC2) reject(name, "lossless or hierarchical JPEG is not supported");
  if (precision != 8) reject(name, "JPEG with {} bits per value is not supported, expected 8", precision);
  if (components != 1 && components != 3 && components != 4)
    reject(name, "JPEG with {} components is not supported, expected 1, 3 or 4", components);
}

}  // namespace

// Walks the marker segments (ITU-T T.81, annex B) to the end marker.
void check_jpeg_segments(Bytes bytes, const std::string& name) {
  const auto ends = [&]() { reject(name, "JPEG ends at byte {}, before its end marker", bytes.size()); };
  int scans = 0;
  for (size_t at = 2;;) {
    // Entropy-coded data, fill bytes and restart markers lie before the next marker.
    while (at + 1 < bytes.size() && (bytes[at] != 0xFF || bytes[at + 1] == 0 || bytes[at + 1] == 0xFF ||
                                     (bytes[at + 1] >= 0xD0 && bytes[at + 1] <= 0xD7)))
      ++at;
    if (at + 1 >= bytes.size()) ends();
    const uint8_t marker = bytes[at + 1];
    at += 2;
    if (marker == 0xD9 && scans == 0) reject(name, "JPEG without image data");
    if (marker == 0xD9) return;
    if (marker == 0xD8 || marker == 0x01) continue;
    if (bytes.size() - at < 2) ends();
    const size_t length = big_endian16(bytes, at);
    if (length < 2) reject(name, "JPEG segment at byte {} has length {}", at, length);
    if (length > bytes.size() - at) ends();
    const Bytes segment = bytes.subspan(at, length);
    if (marker == 0xC4) check_huffman(segment, name);
    if (marker == 0xDA && ++scans > kMostJpegScans)
      reject(name, "JPEG has more than {} scans", kMostJpegScans);
    if (marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC)
      check_frame(segment, marker, at, name);
    at += length;
  }
}

// With Pillow's division by 255.
void cmyk_to_rgb(const uint8_t* cmyk, int width, uint8_t* rgb) {
  for (int x = 0; x < width; ++x, cmyk += 4, rgb += 3)
    for (int c = 0; c < 3; ++c) {
      const int product = (255 - cmyk[c]) * cmyk[3] + 128;
      rgb[c] = uint8_t(cmyk[3] - ((product + (product >> 8)) >> 8));
    }
}

}  // namespace plume::data
