#include "tools/cli/preprocessing.h"

#include <algorithm>
#include <cmath>

#include "engine/core/error.h"
#include "engine/files/read_file.h"
#include "engine/serialization/safetensors_header.h"
#include "tools/cli/flags.h"

namespace plume::tools {
namespace {

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  for (size_t at = 0;;) {
    const size_t end = text.find(separator, at);
    parts.push_back(text.substr(at, end - at));
    if (end == std::string::npos) return parts;
    at = end + 1;
  }
}

}  // namespace

std::array<float, data::kChannels> parse_channels(const std::string& what, const std::string& text,
                                                  double least) {
  const std::vector<std::string> parts = split(text, ',');
  PLUME_CHECK(parts.size() == data::kChannels, "{}: '{}' is not three numbers like 0.485,0.456,0.406", what,
              text);
  std::array<float, data::kChannels> values{};
  for (size_t c = 0; c < values.size(); ++c) values[c] = float(parse_number(what, parts[c], least, 1e6));
  return values;
}

Preprocessing torchvision_preprocessing(const std::string& model) {
  Preprocessing how;
  if (model == "efficientnet_v2_s") how.resize = how.crop = 384;
  return how;
}

Preprocessing preprocessing_of(const Weights& weights, const std::string& model) {
  Preprocessing how = torchvision_preprocessing(model);
  for (const auto& [key, value] : weights.metadata) {
    const std::string what = message("{}: __metadata__ '{}'", weights.path, key);
    try {
      if (key == "resize") how.resize = parse_whole(what, value, 1, kMostSide);
      if (key == "crop") how.crop = parse_whole(what, value, 1, kMostSide);
      if (key == "interpolation") how.interpolation = data::parse_interpolation(value);
      if (key == "mean") how.statistics.mean = parse_channels(what, value, -1e6);
      if (key == "std") how.statistics.std = parse_channels(what, value, kLeastStd);
      if (key == "rotate180") how.rotate180 = parse_whole(what, value, 0, 1) == 1;
    } catch (const Error& error) {
      const std::string reason = error.what();
      fail(ErrorKind::bad_input, "{}", reason.starts_with(what) ? reason : what + ": " + reason);
    }
  }
  return how;
}

void preprocess(const data::Image& image, const Preprocessing& how, float* out) {
  const data::Image cropped = data::resize_and_crop(image, how.resize, how.crop, how.interpolation);
  float table[data::kChannels][256];
  for (size_t c = 0; c < data::kChannels; ++c)
    for (int x = 0; x < 256; ++x)
      table[c][x] = (float(x) / 255.0f - how.statistics.mean[c]) / how.statistics.std[c];
  const size_t pixels = size_t(how.crop) * size_t(how.crop);
  for (size_t i = 0; i < pixels; ++i) {
    const uint8_t* pixel = cropped.pixels.data() + (how.rotate180 ? pixels - 1 - i : i) * data::kChannels;
    for (size_t c = 0; c < data::kChannels; ++c) *out++ = table[c][pixel[c]];
  }
}

data::Image as_seen(const float* prepared, const Preprocessing& how) {
  data::Image image{int(how.crop), int(how.crop), {}};
  const size_t values = size_t(how.crop) * size_t(how.crop) * data::kChannels;
  for (size_t i = 0; i < values; ++i) {
    const size_t c = i % data::kChannels;
    const float x = prepared[i] * how.statistics.std[c] + how.statistics.mean[c];
    image.pixels.push_back(uint8_t(std::lround(std::clamp(x, 0.0f, 1.0f) * 255.0f)));
  }
  return image;
}

std::vector<std::string> read_labels(const std::string& path, int64_t classes) {
  constexpr int64_t kMostBytes = 64 << 20;
  const std::vector<uint8_t> bytes = read_small_file(path, kMostBytes, "names, one per line");
  std::string text(bytes.begin(), bytes.end());
  if (text.starts_with("\xEF\xBB\xBF")) text.erase(0, 3);  // a byte-order mark, as Windows' editors write it
  if (const size_t bad = find_invalid_utf8(text); bad != std::string::npos)
    fail(ErrorKind::bad_input, "{}: byte {} is not UTF-8, expected names, one per line", path, bad);
  std::vector<std::string> labels = split(text, '\n');
  if (labels.back().empty()) labels.pop_back();
  for (size_t i = 0; i < labels.size(); ++i) {
    if (labels[i].ends_with('\r')) labels[i].pop_back();
    if (std::any_of(labels[i].begin(), labels[i].end(), [](char c) { return uint8_t(c) < ' ' && c != '\t'; }))
      fail(ErrorKind::bad_input, "{}: line {} has control characters, expected a name", path, i + 1);
    if (labels[i].empty()) fail(ErrorKind::bad_input, "{}: line {} is empty, expected a name", path, i + 1);
  }
  if (int64_t(labels.size()) != classes)
    fail(ErrorKind::bad_input, "{}: has {} names, the weights have {} classes", path, labels.size(), classes);
  return labels;
}

}  // namespace plume::tools
