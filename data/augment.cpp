#include "data/augment.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "engine/core/error.h"
#include "engine/core/random.h"

namespace plume::data {
namespace {
constexpr uint64_t kStream = 0x61756769ull << 32;  // keeps these random numbers apart from all others

// Uniform in [0, bound); a bound of a few pixels makes the bias of about bound / 2^32 irrelevant.
int scaled(uint32_t bits, int bound) { return int(uint64_t(bits) * uint64_t(bound) >> 32); }
}  // namespace

AugmentParams training_augmentation(const ChannelStatistics& statistics, uint64_t seed) {
  return {.crop_padding = 4, .flip = true, .statistics = statistics, .seed = seed};
}

AugmentParams evaluation_augmentation(const ChannelStatistics& statistics) {
  AugmentParams params;
  params.statistics = statistics;
  return params;
}

Augmenter::Augmenter(int height, int width, const AugmentParams& params)
    : height_(height), width_(width), params_(params) {
  PLUME_CHECK(height > 0 && width > 0, "augment: image of {}x{}", height, width);
  PLUME_CHECK(params.crop_padding >= 0 && params.crop_padding <= std::min(height, width),
              "augment: crop padding {} for images of {}x{}", params.crop_padding, height, width);
  for (int x = 0; x < width; ++x)
    for (size_t c = 0; c < kChannels; ++c) {
      const double mean = double(params.statistics.mean[c]), std = double(params.statistics.std[c]);
      PLUME_CHECK(std > 0, "augment: std {} of channel {}, expected above 0", std, c);
      scale_.push_back(float(1 / (255 * std)));
      shift_.push_back(float(-mean / std));
    }
}

AugmentDraw Augmenter::draw(int64_t epoch, int64_t index) const {
  AugmentDraw result;
  if (params_.crop_padding == 0 && !params_.flip) return result;
  const PhiloxBlock block = philox(params_.seed, uint64_t(index), kStream | uint64_t(epoch));
  const int padding = params_.crop_padding;
  result.dy = scaled(block.v[0], 2 * padding + 1) - padding;
  result.dx = scaled(block.v[1], 2 * padding + 1) - padding;
  result.flip = params_.flip && (block.v[2] >> 31) != 0;
  return result;
}

void Augmenter::apply(std::span<const uint8_t> pixels, const AugmentDraw& draw, float* out) const {
  const size_t row_values = size_t(width_) * kChannels;
  PLUME_CHECK(pixels.size() == row_values * size_t(height_), "augment: {} bytes for an image of {}x{}",
              pixels.size(), height_, width_);
  // Each output row is assembled as bytes (crop, black border, mirror), then normalised in one loop.
  std::vector<uint8_t> row(row_values), mirrored(draw.flip ? row_values : 0);
  const size_t kept = size_t(std::max(0, width_ - std::abs(draw.dx))) * kChannels;
  const size_t from = size_t(std::max(0, draw.dx)) * kChannels,
               to = size_t(std::max(0, -draw.dx)) * kChannels;
  for (int y = 0; y < height_; ++y, out += row_values) {
    const int source_y = y + draw.dy;
    const uint8_t* values = row.data();
    if (source_y < 0 || source_y >= height_) {
      std::fill(row.begin(), row.end(), uint8_t(0));
    } else {
      const uint8_t* source = pixels.data() + size_t(source_y) * row_values;
      if (kept == row_values) {
        values = source;
      } else {
        std::fill(row.begin(), row.end(), uint8_t(0));
        if (kept > 0) std::memcpy(row.data() + to, source + from, kept);
      }
    }
    if (draw.flip) {
      for (size_t x = 0; x < size_t(width_); ++x)
        for (size_t c = 0; c < kChannels; ++c)
          mirrored[x * kChannels + c] = values[(size_t(width_) - 1 - x) * kChannels + c];
      values = mirrored.data();
    }
    const float *scale = scale_.data(), *shift = shift_.data();
    for (size_t i = 0; i < row_values; ++i) out[i] = float(values[i]) * scale[i] + shift[i];
  }
}

}  // namespace plume::data
