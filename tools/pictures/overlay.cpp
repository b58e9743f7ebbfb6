#include "tools/pictures/overlay.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>

#include "engine/core/error.h"

namespace plume::tools {
namespace {

// Turbo (Mikhailov, "Turbo, an improved rainbow colormap", 2019) at nine even places, linear in between.
constexpr std::array<std::array<double, 3>, 9> kTurbo{{{48, 18, 59},
                                                       {69, 91, 205},
                                                       {61, 158, 254},
                                                       {24, 215, 203},
                                                       {110, 253, 96},
                                                       {205, 236, 52},
                                                       {254, 176, 56},
                                                       {231, 88, 15},
                                                       {165, 22, 4}}};

double turbo(double heat, size_t channel) {
  const double at = heat * double(kTurbo.size() - 1);
  const size_t first = std::min(size_t(at), kTurbo.size() - 2);
  const double part = at - double(first);
  return kTurbo[first][channel] * (1 - part) + kTurbo[first + 1][channel] * part;
}

// The pixels of one axis of a map that a place on the image lies between.
struct Place {
  size_t low, high;
  double part;
};
Place place(int at, int size, int map_size) {
  const double x = std::clamp((at + 0.5) * map_size / size - 0.5, 0.0, double(map_size - 1));
  const size_t low = size_t(x);
  return {low, std::min(low + 1, size_t(map_size - 1)), x - double(low)};
}

data::Image enlarge(const data::Image& image, int factor) {
  data::Image out{image.height * factor, image.width * factor, {}};
  out.pixels.reserve(size_t(out.height) * size_t(out.width) * 3);
  for (int y = 0; y < out.height; ++y)
    for (int x = 0; x < out.width; ++x)
      for (int c = 0; c < 3; ++c)
        out.pixels.push_back(image.pixels[size_t((y / factor * image.width + x / factor) * 3 + c)]);
  return out;
}

}  // namespace

data::Image overlay_heat(const data::Image& image, std::span<const float> map, int map_height, int map_width,
                         int least_side) {
  PLUME_CHECK(map.size() == size_t(map_height) * size_t(map_width) && !map.empty(),
              "overlay: {} values for {}x{}", map.size(), map_height, map_width);
  constexpr double kStrongest = 0.65;  // share of the colour where the map is largest
  const int side = std::min(image.height, image.width);
  data::Image out = enlarge(image, std::max(1, (least_side + side - 1) / side));
  const double largest = double(*std::max_element(map.begin(), map.end()));
  for (int y = 0; y < out.height; ++y) {
    const Place row = place(y, out.height, map_height);
    for (int x = 0; x < out.width; ++x) {
      const Place column = place(x, out.width, map_width);
      const auto at = [&](size_t h, size_t w) { return double(map[h * size_t(map_width) + w]); };
      const double upper =
          at(row.low, column.low) * (1 - column.part) + at(row.low, column.high) * column.part;
      const double lower =
          at(row.high, column.low) * (1 - column.part) + at(row.high, column.high) * column.part;
      const double heat = largest > 0 ? (upper * (1 - row.part) + lower * row.part) / largest : 0;
      const double share = kStrongest * std::sqrt(heat);
      for (size_t c = 0; c < 3; ++c) {
        uint8_t& pixel = out.pixels[size_t(y * out.width + x) * 3 + c];
        pixel = uint8_t(std::lround(double(pixel) * (1 - share) + turbo(heat, c) * share));
      }
    }
  }
  return out;
}

data::Image rotated180(const data::Image& image) {
  data::Image out{image.height, image.width, {}};
  for (size_t i = image.pixels.size(); i > 0; i -= 3)
    out.pixels.insert(out.pixels.end(), image.pixels.begin() + std::ptrdiff_t(i - 3),
                      image.pixels.begin() + std::ptrdiff_t(i));
  return out;
}

std::map<std::string, std::string> overlay_paths(const std::string& target,
                                                 const std::vector<std::string>& images) {
  namespace fs = std::filesystem;
  std::map<std::string, std::string> paths;
  if (target.empty()) return paths;
  std::error_code error;
  if (target.ends_with(".png")) {
    PLUME_CHECK(images.size() == 1, "--explain {}: is one file for {} images; give a folder", target,
                images.size());
    paths[images[0]] = target;
  } else {
    std::map<std::string, std::string> taken;
    for (const std::string& image : images) {
      if (paths.contains(image)) continue;
      paths[image] = (fs::path(target) / fs::path(image).stem()).string() + ".png";
      const auto [other, fresh] = taken.emplace(paths[image], image);
      PLUME_CHECK(fresh, "--explain {}: {} and {} would share {}", target, other->second, image,
                  paths[image]);
    }
    fs::create_directories(target, error);
    if (error)
      fail(ErrorKind::resource, "--explain {}: the folder cannot be made: {}", target, error.message());
  }
  for (const auto& [image, path] : paths)
    for (const std::string& other : images)
      PLUME_CHECK(path != other && !fs::equivalent(path, other, error), "--explain {}: {} is an image",
                  target, path);
  return paths;
}

}  // namespace plume::tools
