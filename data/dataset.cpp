#include "data/dataset.h"

#include <bit>
#include <cstring>
#include <utility>

#include "engine/core/error.h"

namespace plume::data {
namespace {

// The finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): every input bit reaches every output bit.
uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

uint64_t load_word(const uint8_t* from) {
  uint64_t word;
  std::memcpy(&word, from, sizeof word);
  return word;
}

uint64_t hash_text(const std::string& text, uint64_t seed) {
  return hash_bytes({reinterpret_cast<const uint8_t*>(text.data()), text.size()}, seed);
}

std::string hexadecimal(uint64_t value) {
  std::string digits(16, '0');
  for (size_t i = 16; i-- > 0; value >>= 4) digits[i] = "0123456789abcdef"[value & 15];
  return digits;
}

}  // namespace

uint64_t hash_bytes(std::span<const uint8_t> bytes, uint64_t seed) {
  // Four independent lanes, since one chain of multiplications would wait for itself.
  constexpr uint64_t kMultiplier = 0x9E3779B97F4A7C15ull;
  uint64_t lanes[4] = {mix(seed + 1), mix(seed + 2), mix(seed + 3), mix(seed + 4)};
  const uint8_t* at = bytes.data();
  size_t left = bytes.size();
  for (; left >= 32; at += 32, left -= 32)
    for (size_t lane = 0; lane < 4; ++lane)
      lanes[lane] = std::rotl(lanes[lane] ^ load_word(at + 8 * lane), 29) * kMultiplier;
  uint64_t result = mix(seed ^ bytes.size());
  for (size_t i = 0; i < left; ++i) result = (result ^ at[i]) * kMultiplier;
  for (const uint64_t lane : lanes) result = mix(result ^ lane) * kMultiplier;
  return mix(result);
}

const char* name(Split split) { return split == Split::train ? "train" : "test"; }

Split parse_split(std::string_view text) {
  if (text == "train") return Split::train;
  if (text == "test") return Split::test;
  fail(ErrorKind::usage, "split '{}': expected train or test", text);
}

Dataset::Dataset(DatasetInfo info, std::vector<uint8_t> pixels, std::vector<int32_t> labels)
    : info_(std::move(info)), pixels_(std::move(pixels)), labels_(std::move(labels)) {
  const size_t image = size_t(height()) * size_t(width()) * kChannels;
  if (pixels_.size() != labels_.size() * image)
    fail(ErrorKind::internal, "data set {}: {} bytes of pixels for {} images of {} bytes", info_.name,
         pixels_.size(), labels_.size(), image);
  for (size_t i = 0; i < labels_.size(); ++i)
    if (labels_[i] < 0 || labels_[i] >= classes())
      fail(ErrorKind::internal, "data set {}: label {} of image {} is not in [0, {})", info_.name, labels_[i],
           i, classes());
  const int64_t sizes[] = {size(), height(), width(), classes()};
  uint64_t hash = hash_bytes({reinterpret_cast<const uint8_t*>(sizes), sizeof sizes});
  for (const std::string& class_name : class_names()) hash = hash_text(class_name, hash);
  hash = hash_bytes({reinterpret_cast<const uint8_t*>(labels_.data()), labels_.size() * sizeof labels_[0]},
                    hash);
  fingerprint_ = hexadecimal(hash_bytes(pixels_, hash));
}

Sample Dataset::get(int64_t i) const {
  PLUME_CHECK(i >= 0 && i < size(), "data set {}: image {} of {}", info_.name, i, size());
  const size_t image = size_t(height()) * size_t(width()) * kChannels;
  return {{pixels_.data() + size_t(i) * image, image}, labels_[size_t(i)]};
}

}  // namespace plume::data
