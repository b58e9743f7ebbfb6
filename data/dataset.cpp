#include "data/dataset.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "engine/core/error.h"
#include "engine/core/text.h"

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

template <class T>
uint64_t hash_values(std::span<const T> values, uint64_t seed = 0) {
  return hash_bytes({reinterpret_cast<const uint8_t*>(values.data()), values.size_bytes()}, seed);
}

// Of what every data set has: counts, names and labels.
uint64_t hash_description(const Dataset& set, std::span<const int32_t> labels) {
  const int64_t sizes[] = {set.size(), set.height(), set.width(), set.classes()};
  uint64_t hash = hash_values<int64_t>(sizes);
  for (const std::string& class_name : set.class_names()) hash = hash_text(class_name, hash);
  return hash_values(labels, hash);
}

size_t image_bytes(int64_t height, int64_t width) { return size_t(height) * size_t(width) * kChannels; }

}  // namespace

std::string hexadecimal(uint64_t value) {
  std::string digits(16, '0');
  for (size_t i = 16; i-- > 0; value >>= 4) digits[i] = "0123456789abcdef"[value & 15];
  return digits;
}

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

uint64_t hash_text(std::string_view text, uint64_t seed) {
  return hash_bytes({reinterpret_cast<const uint8_t*>(text.data()), text.size()}, seed);
}

const char* name(Split split) {
  return split == Split::train ? "train" : split == Split::val ? "val" : "test";
}

Split parse_split(std::string_view text) {
  for (const Split split : {Split::train, Split::val, Split::test})
    if (text == name(split)) return split;
  fail(ErrorKind::usage, "split '{}': expected train, val or test", text);
}

void check_split(std::string_view dataset, Split split, const std::vector<Split>& there) {
  std::string names;
  for (const Split one : there) {
    if (one == split) return;
    names += (names.empty() ? "" : " and ") + std::string(name(one));
  }
  fail(ErrorKind::usage, "data set {}: has no split {}: it has {}", dataset, name(split), names);
}

std::string to_line(const std::vector<LeftOut>& left_out) {
  std::vector<std::string> kinds;
  size_t files = 0;
  for (const LeftOut& one : left_out) {
    if (kinds.size() < kBriefNames)
      kinds.push_back(message("{} {}", one.count, one.kind));
    else
      files += size_t(one.count);
  }
  return brief_list(kinds, "", kinds.size() + files);
}

std::string to_line(const DatasetDescription& d) {
  std::string line = message("{} split, {} images", name(d.split), d.images);
  if (!d.folder.empty()) line += " of " + printable(d.folder);
  if (!d.left_out.empty()) line += "; left out: " + to_line(d.left_out);
  return line;
}

Dataset::Dataset(DatasetInfo info, std::vector<uint8_t> pixels, std::vector<int32_t> labels)
    : info_(std::move(info)) {
  const auto owned = std::make_shared<const std::vector<uint8_t>>(std::move(pixels));
  content_.labels = std::move(labels);
  content_.pixels = *owned;
  content_.owner = owned;
  const size_t image = image_bytes(height(), width());
  if (content_.pixels.size() != content_.labels.size() * image)
    fail(ErrorKind::internal, "data set {}: {} bytes of pixels for {} images of {} bytes", info_.name,
         content_.pixels.size(), content_.labels.size(), image);
  check_labels();
  fingerprint_ = hexadecimal(hash_bytes(content_.pixels, hash_description(*this, content_.labels)));
}

Dataset::Dataset(DatasetInfo info, DatasetContent content)
    : info_(std::move(info)), content_(std::move(content)) {
  const std::vector<ImagePlace>& places = content_.places;
  if (places.size() != content_.labels.size())
    fail(ErrorKind::internal, "data set {}: {} images, {} labels", info_.name, places.size(),
         content_.labels.size());
  info_.height = places.empty() ? 0 : places.front().height;
  info_.width = places.empty() ? 0 : places.front().width;
  for (size_t i = 0; i < places.size(); ++i) {
    const ImagePlace& place = places[i];
    const size_t pixels = content_.pixels.size();
    if (place.height <= 0 || place.width <= 0 || place.offset < 0 || size_t(place.offset) > pixels ||
        image_bytes(place.height, place.width) > pixels - size_t(place.offset))
      fail(ErrorKind::internal, "data set {}: image {} of {}x{} pixels at byte {} of {}", info_.name, i,
           place.height, place.width, place.offset, pixels);
    if (place.height != info_.height || place.width != info_.width) info_.height = info_.width = 0;
  }
  check_labels();
  const uint64_t hash = hash_description(*this, content_.labels);
  std::vector<int32_t> sides;
  for (const ImagePlace& place : places) sides.insert(sides.end(), {place.height, place.width});
  const uint64_t parts[] = {hash_values<int32_t>(sides, hash), content_.pixel_hash};
  fingerprint_ = hexadecimal(hash_values<uint64_t>(parts));
}

DatasetDescription Dataset::description() const {
  DatasetDescription d{info_.folder, info_.split, size(), info_.left_out};
  if (!skipped().empty()) d.left_out.push_back({"unreadable", int64_t(skipped().size())});
  return d;
}

void Dataset::check_labels() const {
  const std::vector<int32_t>& labels = content_.labels;
  for (size_t i = 0; i < labels.size(); ++i)
    if (labels[i] < 0 || labels[i] >= classes())
      fail(ErrorKind::internal, "data set {}: label {} of image {} is not in [0, {})", info_.name, labels[i],
           i, classes());
}

Sample Dataset::get(int64_t i) const {
  PLUME_CHECK(i >= 0 && i < size(), "data set {}: image {} of {}", info_.name, i, size());
  const ImagePlace place = place_of(i);
  return {content_.pixels.subspan(size_t(place.offset), image_bytes(place.height, place.width)), place.height,
          place.width, content_.labels[size_t(i)]};
}

ImagePlace Dataset::place_of(int64_t i) const {
  if (!content_.places.empty()) return content_.places[size_t(i)];
  return {i * int64_t(image_bytes(info_.height, info_.width)), info_.height, info_.width};
}

std::shared_ptr<const Dataset> Dataset::subset(std::span<const int64_t> images) const {
  DatasetContent chosen;
  chosen.pixels = content_.pixels;
  chosen.owner = content_.owner;
  chosen.skipped = content_.skipped;
  chosen.pixel_hash = hash_values(images, hash_text(fingerprint_, content_.pixel_hash));
  for (const int64_t i : images) {
    chosen.labels.push_back(get(i).label);
    chosen.places.push_back(place_of(i));
  }
  return std::make_shared<const Dataset>(info_, std::move(chosen));
}

}  // namespace plume::data
