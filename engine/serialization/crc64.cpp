#include "engine/serialization/crc64.h"

#include <array>
#include <bit>
#include <cstring>

namespace plume {
namespace {

static_assert(std::endian::native == std::endian::little);

// Row k advances a byte over k further zero bytes, so that eight bytes are done at once.
using Tables = std::array<std::array<uint64_t, 256>, 8>;

constexpr Tables make_tables() {
  constexpr uint64_t kPolynomial = 0xC96C5795D7870F42;
  Tables t{};
  for (uint64_t byte = 0; byte < 256; ++byte) {
    uint64_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
    t[0][byte] = crc;
  }
  for (size_t k = 1; k < 8; ++k)
    for (size_t byte = 0; byte < 256; ++byte)
      t[k][byte] = (t[k - 1][byte] >> 8) ^ t[0][t[k - 1][byte] & 0xFF];
  return t;
}

constexpr Tables kTables = make_tables();

}  // namespace

void Crc64::add(const void* data, size_t bytes) {
  const unsigned char* next = static_cast<const unsigned char*>(data);
  uint64_t crc = state_;
  for (; bytes >= 8; bytes -= 8, next += 8) {
    uint64_t word;
    std::memcpy(&word, next, 8);
    word ^= crc;
    crc = 0;
    for (size_t k = 0; k < 8; ++k) crc ^= kTables[7 - k][(word >> (8 * k)) & 0xFF];
  }
  for (; bytes > 0; --bytes, ++next) crc = (crc >> 8) ^ kTables[0][(crc ^ *next) & 0xFF];
  state_ = crc;
}

}  // namespace plume
