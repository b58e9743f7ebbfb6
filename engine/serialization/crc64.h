// CRC-64 (ECMA-182 polynomial, reflected, as in the XZ format): finds every single-bit error and every burst
// of up to 64 bits.
#pragma once
#include <cstddef>
#include <cstdint>

namespace plume {

class Crc64 {
 public:
  void add(const void* data, size_t bytes);
  uint64_t value() const { return ~state_; }

 private:
  uint64_t state_ = ~uint64_t{0};
};

}  // namespace plume
