// Everything is drawn with integers, so that the bytes are the same for every compiler and every -march.
//
// Lengths are in 1/64 pixel, sines in 1/4096. A pixel is the mean of 2x2 points, each of which is either
// background or one of the two colours of the texture.
#include "data/sets/synthetic.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <numbers>
#include <utility>
#include <vector>

#include "data/sets/parallel.h"
#include "engine/core/error.h"
#include "engine/core/random.h"

namespace plume::data {
namespace {

constexpr int kUnit = 64;                                 // lengths: parts of a pixel
constexpr int kOne = 4096;                                // sines
constexpr int kAngles = 256;                              // directions of a full turn
constexpr uint64_t kDrawingStream = 0x73796E74ull << 32;  // keeps these random numbers apart from all others

constexpr const char* kShapes[] = {"disc", "bar", "triangle", "ring", "cross"};
constexpr const char* kTextures[] = {"plain", "striped"};
constexpr int kShapeCount = int(std::size(kShapes));
static_assert(kShapeCount * std::size(kTextures) == kSyntheticClasses);

using Colour = std::array<int, 3>;

struct Direction {
  int cosine, sine;
};

// Rounding to 12 bits hides the last-digit differences of mathematical libraries.
const std::array<Direction, kAngles>& directions() {
  static const std::array<Direction, kAngles> table = [] {
    std::array<Direction, kAngles> t{};
    for (int i = 0; i < kAngles; ++i) {
      const double angle = 2 * std::numbers::pi * i / kAngles;
      t[size_t(i)] = {int(std::lround(kOne * std::cos(angle))), int(std::lround(kOne * std::sin(angle)))};
    }
    return t;
  }();
  return table;
}

struct Point {
  int u, v;
};

Point rotate(Point p, Direction d) {
  return {(p.u * d.cosine + p.v * d.sine) / kOne, (p.v * d.cosine - p.u * d.sine) / kOne};
}

// p is relative to the centre, r half the largest extent, a little more for the triangle.
bool inside_shape(int shape, Point p, int r) {
  const int u = std::abs(p.u), v = std::abs(p.v);
  switch (shape) {
    case 0:
      return p.u * p.u + p.v * p.v <= r * r;
    case 1:
      return u <= r && v * 5 <= r * 2;
    case 2:  // equilateral, circumscribed circle 5/4 r; 1774 / 1024 is the root of 3
      return p.v * 8 >= -r * 5 && u * 1774 / 1024 <= r * 5 / 4 - p.v;
    case 3: {
      const int square = p.u * p.u + p.v * p.v;
      return square <= r * r && square * 4 >= r * r;
    }
    default:
      return std::max(u, v) <= r && std::min(u, v) * 3 <= r;
  }
}

int floor_divide(int a, int b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }

bool first_colour(int texture, Point p, int half_period) {
  return texture == 0 || (floor_divide(p.u, half_period) & 1) == 0;
}

int between(RandomSequence& random, int low, int high) {
  return low + int(random.below(uint64_t(high - low + 1)));
}

Colour random_colour(RandomSequence& random) {
  const uint32_t bits = random.bits();
  return {int(bits & 255), int(bits >> 8 & 255), int(bits >> 16 & 255)};
}

int distance(const Colour& a, const Colour& b) {
  return std::abs(a[0] - b[0]) + std::abs(a[1] - b[1]) + std::abs(a[2] - b[2]);
}

// A colour that can be told from the others.
Colour distinct_colour(RandomSequence& random, std::initializer_list<Colour> others) {
  constexpr int kLeast = 250;
  for (;;) {
    const Colour colour = random_colour(random);
    if (std::all_of(others.begin(), others.end(),
                    [&](const Colour& other) { return distance(colour, other) >= kLeast; }))
      return colour;
  }
}

void draw_image(uint64_t seed, Split split, int64_t index, int label, uint8_t* out) {
  RandomSequence random(seed,
                        kDrawingStream | (split == Split::test ? uint64_t(1) << 31 : 0) | uint64_t(index));
  const int shape = label % kShapeCount, texture = label / kShapeCount;

  const int size = between(random, 10 * kUnit, 13 * kUnit);
  constexpr int kMiddle = kSyntheticSize * kUnit / 2, kShift = 4 * kUnit;
  const Point centre = {between(random, kMiddle - kShift, kMiddle + kShift),
                        between(random, kMiddle - kShift, kMiddle + kShift)};
  // At most a sixteenth of a turn either way, so that a few epochs are enough to learn it.
  const Direction turn = directions()[size_t(between(random, 0, kAngles / 8) - kAngles / 16) & (kAngles - 1)];
  const Direction grain = directions()[random.below(kAngles)];
  const int half_period = between(random, kUnit * 2, kUnit * 4);
  const Point phase = {between(random, 0, 8 * kUnit), between(random, 0, 8 * kUnit)};

  const Colour background = random_colour(random);
  const Colour first = distinct_colour(random, {background});
  const Colour second = distinct_colour(random, {background, first});
  // The background fades along both axes, by at most 64 levels from edge to edge.
  const Colour fade_x = {between(random, -32, 32), between(random, -32, 32), between(random, -32, 32)};
  const Colour fade_y = {between(random, -32, 32), between(random, -32, 32), between(random, -32, 32)};
  const int noise = between(random, 4, 20);  // levels, either way

  for (int y = 0; y < kSyntheticSize; ++y)
    for (int x = 0; x < kSyntheticSize; ++x) {
      int hits[2] = {0, 0};
      for (int sub = 0; sub < 4; ++sub) {
        const Point p = {x * kUnit + (sub & 1 ? 48 : 16) - centre.u,
                         y * kUnit + (sub & 2 ? 48 : 16) - centre.v};
        if (!inside_shape(shape, rotate(p, turn), size)) continue;
        const Point t = rotate(p, grain);
        ++hits[first_colour(texture, {t.u + phase.u, t.v + phase.v}, half_period) ? 0 : 1];
      }
      const uint32_t bits = random.bits();
      for (size_t c = 0; c < kChannels; ++c) {
        const int ground = background[c] + (fade_x[c] * (2 * x - 31) + fade_y[c] * (2 * y - 31)) / 62;
        const int clean = (first[c] * hits[0] + second[c] * hits[1] + ground * (4 - hits[0] - hits[1])) / 4;
        const int grainy = clean + (int(bits >> (8 * c) & 255) - 128) * noise / 128;
        *out++ = uint8_t(std::clamp(grainy, 0, 255));
      }
    }
}

}  // namespace

DatasetInfo synthetic_traits() {
  DatasetInfo info;
  info.name = "synthetic";
  info.height = info.width = kSyntheticSize;
  for (const char* texture : kTextures)
    for (const char* shape : kShapes) info.class_names.push_back(std::string(texture) + " " + shape);
  info.statistics = {{0.5f, 0.5f, 0.5f}, {0.293f, 0.293f, 0.293f}};
  return info;
}

std::shared_ptr<const Dataset> make_synthetic(Split split, const SyntheticParams& params) {
  constexpr int64_t kMost = 10'000'000;
  PLUME_CHECK(params.count >= 0 && params.count <= kMost, "synthetic: {} images, expected 0 to {}",
              params.count, kMost);
  check_split("synthetic", split, {Split::train, Split::test});
  const int64_t count = params.count > 0        ? params.count
                        : split == Split::train ? kSyntheticTrainCount
                                                : kSyntheticTestCount;

  DatasetInfo info = synthetic_traits();
  info.split = split;

  constexpr size_t kImage = size_t(kSyntheticSize) * kSyntheticSize * kChannels;
  std::vector<uint8_t> pixels(size_t(count) * kImage);
  std::vector<int32_t> labels(size_t(count), 0);
  for_each_index(count, params.threads, [&](int64_t i) {
    labels[size_t(i)] = int32_t(i % kSyntheticClasses);
    draw_image(params.seed, split, i, labels[size_t(i)], pixels.data() + size_t(i) * kImage);
  });
  return std::make_shared<const Dataset>(std::move(info), std::move(pixels), std::move(labels));
}

}  // namespace plume::data
