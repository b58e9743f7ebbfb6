#include "tools/training/tensorboard.h"

#include <array>
#include <cstring>

namespace plume::tools {
namespace {

constexpr uint32_t kPolynomial = 0x82F63B78;  // reflected

constexpr std::array<uint32_t, 256> make_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t c = i;
    for (int bit = 0; bit < 8; ++bit) c = c & 1 ? c >> 1 ^ kPolynomial : c >> 1;
    table[i] = c;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kTable = make_table();

enum WireType : uint8_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

// One message of protocol buffers, field by field.
class Message {
 public:
  Message& number(int field, double value) { return key(field, fixed64).raw(&value, sizeof value); }
  Message& number(int field, float value) { return key(field, fixed32).raw(&value, sizeof value); }
  Message& whole(int field, int64_t value) { return key(field, varint).count(uint64_t(value)); }
  Message& text(int field, const std::string& value) {
    return key(field, bytes).count(value.size()).raw(value.data(), value.size());
  }
  Message& message(int field, const Message& value) { return text(field, value.data_); }
  const std::string& data() const { return data_; }

 private:
  Message& key(int field, WireType type) { return count(uint64_t(field) << 3 | type); }
  Message& count(uint64_t value) {
    for (; value >= 0x80; value >>= 7) data_ += char(value | 0x80);
    data_ += char(value);
    return *this;
  }
  Message& raw(const void* from, size_t size) {  // little endian, as every machine that plume runs on
    data_.append(static_cast<const char*>(from), size);
    return *this;
  }
  std::string data_;
};

// Length, its checksum, the message, its checksum.
std::string record(const Message& event) {
  const uint64_t length = event.data().size();
  const uint32_t of_length = masked_crc32c(&length, sizeof length);
  const uint32_t of_data = masked_crc32c(event.data().data(), event.data().size());
  std::string out(reinterpret_cast<const char*>(&length), sizeof length);
  out.append(reinterpret_cast<const char*>(&of_length), sizeof of_length);
  out += event.data();
  return out.append(reinterpret_cast<const char*>(&of_data), sizeof of_data);
}

}  // namespace

uint32_t crc32c(const void* data, size_t size) {
  const auto* next = static_cast<const uint8_t*>(data);
  uint32_t crc = ~0u;
  for (size_t i = 0; i < size; ++i) crc = kTable[(crc ^ next[i]) & 255] ^ crc >> 8;
  return ~crc;
}

uint32_t masked_crc32c(const void* data, size_t size) {
  const uint32_t crc = crc32c(data, size);
  return (crc >> 15 | crc << 17) + 0xA282EAD8u;
}

std::string tensorboard_header(double wall_time) {
  return record(Message().number(1, wall_time).text(3, "brain.Event:2"));  // wall_time, file_version
}

std::string tensorboard_record(const ScalarEvent& event) {
  Message summary;  // repeated Value {tag = 1, simple_value = 2} value = 1
  for (const auto& [tag, value] : event.scalars) summary.message(1, Message().text(1, tag).number(2, value));
  return record(Message().number(1, event.wall_time).whole(2, event.step).message(5, summary));
}

}  // namespace plume::tools
