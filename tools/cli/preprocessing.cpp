#include "tools/cli/preprocessing.h"

#include <fmt/core.h>

#include <algorithm>

#include "data/sets/registry.h"
#include "engine/core/error.h"
#include "engine/files/read_file.h"
#include "engine/serialization/safetensors_header.h"
#include "tools/cli/json.h"

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

// Names may be any bytes that a disk can hold; "__metadata__" is UTF-8, and `labels` has lines.
std::string escaped(std::string_view name) {
  std::string out;
  size_t bad = find_invalid_utf8(name);
  for (size_t i = 0; i < name.size(); ++i) {
    if (i == bad) {
      out += fmt::format("\\x{:02X}", uint8_t(name[i]));
      const size_t next = find_invalid_utf8(name.substr(i + 1));
      bad = next == std::string_view::npos ? next : i + 1 + next;
    } else if (name[i] == '\n') {
      out += "\\n";
    } else if (name[i] == '\\') {
      out += "\\\\";
    } else {
      out += name[i];
    }
  }
  return out;
}

int hexadecimal_digit(char c) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  const size_t at = kDigits.find(c);
  return at == std::string_view::npos ? -1 : int(at);
}

// What is no escape stays as it is: others' labels know none.
std::string unescaped(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const char next = text[i] == '\\' && i + 1 < text.size() ? text[i + 1] : '\0';
    if (next == 'n' || next == '\\') {
      out += next == 'n' ? '\n' : '\\';
      ++i;
    } else if (next == 'x' && i + 3 < text.size() && hexadecimal_digit(text[i + 2]) >= 8 &&
               hexadecimal_digit(text[i + 3]) >= 0) {
      out += char(hexadecimal_digit(text[i + 2]) * 16 + hexadecimal_digit(text[i + 3]));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::vector<std::string> parse_labels(const std::string& text) {
  std::vector<std::string> names = split(text, '\n');
  if (names.back().empty()) names.pop_back();
  for (std::string& name : names) name = unescaped(name);
  return names;
}

data::ImageSize parse_crop(const std::string& what, const std::string& text) {
  const size_t cross = text.find('x');
  const auto side = [&](const std::string& part) { return parse_whole(what, part, 1, data::kMostInputSide); };
  if (cross == std::string::npos) return {side(text), side(text)};
  return {side(text.substr(0, cross)), side(text.substr(cross + 1))};
}

std::string crop_text(data::ImageSize crop) {
  return crop.height == crop.width ? std::to_string(crop.height)
                                   : fmt::format("{}x{}", crop.height, crop.width);
}

// The shortest digits that read back as the same floats.
std::string channels_text(const std::array<float, data::kChannels>& values) {
  return fmt::format("{},{},{}", values[0], values[1], values[2]);
}

// The value of one key of "__metadata__".
void take(const std::string& what, const std::string& key, const std::string& value,
          NetworkDescription& network) {
  data::Preprocessing& how = network.preprocessing;
  if (key == "resize") how.resize = parse_whole(what, value, 1, data::kMostInputSide);
  if (key == "squash") how.squash = parse_whole(what, value, 0, 1) == 1;
  if (key == "crop") how.crop = parse_crop(what, value);
  if (key == "interpolation") how.interpolation = data::parse_interpolation(value);
  if (key == "mean") how.statistics.mean = parse_channels(what, value, -1e6);
  if (key == "std") how.statistics.std = parse_channels(what, value, kLeastStd);
  if (key == "rotate180") how.rotate180 = parse_whole(what, value, 0, 1) == 1;
  if (key == "labels") network.class_names = parse_labels(value);
  if (key == "data") network.data = value;
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

data::Preprocessing torchvision_preprocessing(const std::string& model) {
  data::Preprocessing how;
  if (model == "efficientnet_v2_s") how.resize = how.crop.height = how.crop.width = 384;
  return how;
}

bool describes_images(const std::map<std::string, std::string>& metadata) {
  for (const char* key : {"resize", "squash", "crop", "interpolation", "mean", "std", "rotate180"})
    if (metadata.contains(key)) return true;
  return false;
}

NetworkDescription describe_network(const std::string& path,
                                    const std::map<std::string, std::string>& metadata,
                                    const std::string& model, const std::string& data) {
  NetworkDescription network{.preprocessing = torchvision_preprocessing(model)};
  network.stated = describes_images(metadata);
  network.origin = network.stated ? "as the weights say" : message("as torchvision's {} wants them", model);
  if (!network.stated && !data.empty()) {
    const data::DatasetInfo traits = data::dataset_traits(data);
    network.class_names = traits.class_names;
    network.data = data;
    if (!traits.any_size) {
      network.preprocessing = data::preprocessing_for(traits, 0);
      network.origin = message("as those of {}, for the weights do not say", data);
    }
  }
  for (const auto& [key, value] : metadata) {
    const std::string what = message("{}: __metadata__ '{}'", path, key);
    try {
      take(what, key, value, network);
    } catch (const Error& error) {
      const std::string reason = error.what();
      fail(ErrorKind::bad_input, "{}", reason.starts_with(what) ? reason : what + ": " + reason);
    }
  }
  return network;
}

void check_class_names(const std::string& path, const NetworkDescription& network, int64_t classes) {
  const auto named = int64_t(network.class_names.size());
  if (named > 0 && named != classes)
    fail(ErrorKind::bad_input, "{}: names {} classes and has {}", path, named, classes);
}

std::map<std::string, std::string> to_metadata(const NetworkDescription& network) {
  const data::Preprocessing& how = network.preprocessing;
  std::map<std::string, std::string> metadata = {
      {"resize", std::to_string(how.resize)},     {"crop", crop_text(how.crop)},
      {"interpolation", name(how.interpolation)}, {"mean", channels_text(how.statistics.mean)},
      {"std", channels_text(how.statistics.std)}, {"rotate180", how.rotate180 ? "1" : "0"},
      {"squash", how.squash ? "1" : "0"}};
  if (!network.data.empty()) metadata["data"] = network.data;
  std::string labels;
  for (const std::string& name : network.class_names) labels += escaped(name) + "\n";
  if (!labels.empty()) metadata["labels"] = labels;
  return metadata;
}

std::string to_line(const data::Preprocessing& how) {
  const std::string crop = crop_text(how.crop);
  return fmt::format("{}, {}{}, mean {}, std {}",
                     how.squash ? fmt::format("squashed to {}", crop)
                                : fmt::format("shorter side {}, crop {}", how.resize, crop),
                     name(how.interpolation), how.rotate180 ? ", rotated by 180 degrees" : "",
                     channels_text(how.statistics.mean), channels_text(how.statistics.std));
}

std::string to_line(const NetworkDescription& network) {
  return fmt::format("{} ({})", to_line(network.preprocessing), network.origin);
}

Json to_json(const data::Preprocessing& how) {
  Json crop = how.crop.height;
  if (how.crop.height != how.crop.width) crop = {how.crop.height, how.crop.width};
  return {{"resize", how.squash ? Json() : Json(how.resize)},
          {"squash", how.squash},
          {"crop", crop},
          {"interpolation", name(how.interpolation)},
          {"mean", how.statistics.mean},
          {"std", how.statistics.std},
          {"rotate180", how.rotate180}};
}

PreprocessingFlags::PreprocessingFlags(Flags& flags) : flags_(flags) {
  flags.whole("--image-size", image_size_, 0, data::kMostInputSide,
              "side of the network's input, the resize in proportion (default: as the weights say)");
  flags.whole("--resize", resize_, 1, data::kMostInputSide, "of the shorter side, instead");
  flags.whole("--crop", crop_, 1, data::kMostInputSide, "from the middle, instead");
  flags.on("--squash", squash_, "whole images to the network's input, whatever their shape, instead");
  flags.choice("--interpolation", interpolation_, {"bilinear", "bicubic"}, "of the resize, instead");
  flags.text("--mean", mean_, "R,G,B, instead: an image enters as (x / 255 - mean) / std");
  flags.text("--std", std_, "R,G,B, instead");
}

std::vector<std::string> PreprocessingFlags::given() const {
  std::vector<std::string> names;
  for (const char* name :
       {"--image-size", "--resize", "--crop", "--squash", "--interpolation", "--mean", "--std"})
    if (flags_.given(name)) names.emplace_back(name);
  return names;
}

bool PreprocessingFlags::as_they_are() const { return flags_.given("--image-size") && image_size_ == 0; }

void PreprocessingFlags::overrule(NetworkDescription& network) const {
  data::Preprocessing& how = network.preprocessing;
  for (const char* name : {"--resize", "--crop"})
    PLUME_CHECK(!flags_.given("--image-size") || !flags_.given(name), "--image-size: decides on {} already",
                name);
  PLUME_CHECK(!flags_.given("--squash") || !flags_.given("--resize"),
              "--squash: there is no shorter side for --resize");
  if (image_size_ > 0) how = data::with_input_size(how, image_size_);
  if (flags_.given("--resize")) how.resize = resize_, how.squash = false;
  if (flags_.given("--crop")) how.crop = {crop_, crop_};
  if (squash_) how.squash = true;
  if (flags_.given("--interpolation")) how.interpolation = data::parse_interpolation(interpolation_);
  if (flags_.given("--mean")) how.statistics.mean = parse_channels("--mean", mean_, -1e6);
  if (flags_.given("--std")) how.statistics.std = parse_channels("--std", std_, kLeastStd);
  std::string overruled;
  for (const std::string& name : given()) overruled += (overruled.empty() ? "" : ", ") + name;
  if (!overruled.empty()) network.origin += message(", but {} given", overruled);
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
