#include "data/images/pnm.h"

#include <algorithm>
#include <cmath>

#include "data/images/decoding.h"

namespace plume::data {
namespace {

bool is_space(uint8_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// Numbers and what lies between them, from byte `at` on.
class Text {
 public:
  Text(Bytes bytes, size_t at, const std::string& name) : bytes_(bytes), at_(at), name_(name) {}

  // A whole number, with the one white space behind it.
  int64_t number() {
    pass_over();
    int64_t value = 0;
    const size_t start = at_;
    for (; at_ < bytes_.size() && bytes_[at_] >= '0' && bytes_[at_] <= '9'; ++at_) {
      if (at_ - start >= 10) reject(name_, "PPM number at byte {} is too long", start);
      value = value * 10 + (bytes_[at_] - '0');
    }
    if (at_ == start) refuse();
    if (at_ < bytes_.size() && bytes_[at_] == '#') pass_over_comment();
    if (at_ < bytes_.size() && !is_space(bytes_[at_])) refuse();
    ++at_;
    return value;
  }

  // 0 or 1, which need no white space between them.
  bool bit() {
    pass_over();
    if (at_ >= bytes_.size() || (bytes_[at_] != '0' && bytes_[at_] != '1')) refuse();
    return bytes_[at_++] == '1';
  }

  Bytes rest() const { return bytes_.subspan(std::min(at_, bytes_.size())); }

 private:
  void pass_over_comment() {
    while (at_ < bytes_.size() && bytes_[at_] != '\n' && bytes_[at_] != '\r') ++at_;
  }
  void pass_over() {
    for (; at_ < bytes_.size() && (is_space(bytes_[at_]) || bytes_[at_] == '#'); ++at_)
      if (bytes_[at_] == '#') pass_over_comment();
  }
  [[noreturn]] void refuse() const {
    if (at_ >= bytes_.size()) reject(name_, "PPM ends at byte {}, before its image", bytes_.size());
    reject(name_, "PPM has no number at byte {}", at_);
  }

  Bytes bytes_;
  size_t at_;
  const std::string& name_;
};

// What each value becomes.
std::vector<uint8_t> levels(int64_t most) {
  std::vector<uint8_t> table;
  for (int64_t v = 0; v <= most; ++v)
    table.push_back(uint8_t(std::nearbyint(double(v) / double(most) * 255)));
  return table;
}

}  // namespace

Image decode_pnm(Bytes bytes, const std::string& name) {
  const int kind = bytes[1] - '0';
  const bool plain = kind <= 3, bitmap = kind == 1 || kind == 4, grey = kind == 2 || kind == 5;
  Text text(bytes, 2, name);
  const int64_t width = text.number(), height = text.number();
  check_size(name, "PPM", width, height);
  const int64_t most = bitmap ? 1 : text.number();
  if (most < 1 || most > 65535) reject(name, "PPM with values up to {}, expected 1 to 65535", most);

  const size_t values = size_t(width) * (grey || bitmap ? 1 : 3), rows = size_t(height);
  const size_t each = most > 255 ? 2 : 1;
  // A plain number takes two bytes with the space behind it, the last perhaps one.
  const size_t row_size = kind == 1   ? values
                          : plain     ? values * 2
                          : kind == 4 ? (values + 7) / 8
                                      : values * each;
  Bytes data = text.rest();
  if ((data.size() + (plain ? 1 : 0)) / row_size < rows)
    reject(name, "PPM of {}x{} pixels has {} bytes of them, expected {}", width, height, data.size(),
           row_size * rows);

  const std::vector<uint8_t> level = levels(most);
  Image image{int(height), int(width), std::vector<uint8_t>(size_t(width) * rows * 3)};
  uint8_t* out = image.pixels.data();
  for (size_t y = 0; y < rows; ++y)
    for (size_t i = 0; i < values; ++i) {
      uint8_t value = 0;
      if (kind == 1) {
        value = text.bit() ? 0 : 255;
      } else if (kind == 4) {
        value = data[y * row_size + i / 8] >> (7 - i % 8) & 1 ? 0 : 255;
      } else if (plain) {
        const int64_t v = text.number();
        if (v > most) reject(name, "PPM has the value {}, expected at most {}", v, most);
        value = level[size_t(v)];
      } else {
        const uint8_t* at = data.data() + y * row_size + i * each;
        const int64_t v = each == 2 ? at[0] << 8 | at[1] : at[0];
        value = level[size_t(std::min(v, most))];
      }
      *out++ = value;
      if (grey || bitmap) *out++ = value, *out++ = value;
    }
  return image;
}

}  // namespace plume::data
