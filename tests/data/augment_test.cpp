#include "data/augment.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>
#include <tuple>

#include "engine/core/error.h"
#include "engine/core/random.h"

namespace plume::data {
namespace {

constexpr int kHeight = 7, kWidth = 9;

std::vector<uint8_t> random_pixels() {
  RandomSequence random(1);
  std::vector<uint8_t> pixels(size_t(kHeight) * kWidth * kChannels);
  for (uint8_t& p : pixels) p = uint8_t(random.bits());
  return pixels;
}

// The definition, pixel by pixel and in double precision.
std::vector<double> reference(const std::vector<uint8_t>& pixels, const AugmentDraw& draw,
                              const ChannelStatistics& statistics) {
  std::vector<double> out;
  for (int y = 0; y < kHeight; ++y)
    for (int x = 0; x < kWidth; ++x)
      for (int c = 0; c < kChannels; ++c) {
        const int sy = y + draw.dy, sx = (draw.flip ? kWidth - 1 - x : x) + draw.dx;
        const bool inside = sy >= 0 && sy < kHeight && sx >= 0 && sx < kWidth;
        const double value = inside ? pixels[size_t((sy * kWidth + sx) * kChannels + c)] : 0;
        out.push_back((value / 255 - double(statistics.mean[size_t(c)])) / double(statistics.std[size_t(c)]));
      }
  return out;
}

TEST(Augment, EveryCropAndFlipMatchesTheDefinition) {
  const auto pixels = random_pixels();
  const AugmentParams params{.crop_padding = 4, .flip = true, .statistics = kImageNetStatistics, .seed = 1};
  const Augmenter augmenter(kHeight, kWidth, params);
  std::vector<float> out(pixels.size());
  for (int dy = -4; dy <= 4; ++dy)
    for (int dx = -4; dx <= 4; ++dx)
      for (const bool flip : {false, true}) {
        const AugmentDraw draw{dy, dx, flip};
        augmenter.apply(pixels, draw, out.data());
        const auto expected = reference(pixels, draw, params.statistics);
        for (size_t i = 0; i < out.size(); ++i)
          ASSERT_NEAR(double(out[i]), expected[i], 1e-6) << dy << " " << dx << " " << flip << " " << i;
      }
}

TEST(Augment, CropMayLeaveTheImageEntirely) {
  const auto pixels = random_pixels();
  const Augmenter augmenter(kHeight, kWidth, AugmentParams());
  std::vector<float> out(pixels.size(), 1.0f);
  augmenter.apply(pixels, {0, -kWidth, false}, out.data());
  for (const float v : out) ASSERT_EQ(v, 0.0f);
  augmenter.apply(pixels, {0, kWidth, true}, out.data());
  for (const float v : out) ASSERT_EQ(v, 0.0f);
}

TEST(Augment, EvaluationOnlyNormalises) {
  const auto pixels = random_pixels();
  const Augmenter augmenter(kHeight, kWidth, evaluation_augmentation(kImageNetStatistics));
  std::vector<float> out(pixels.size());
  augmenter(pixels, 3, 14, out.data());
  const auto expected = reference(pixels, {}, kImageNetStatistics);
  for (size_t i = 0; i < out.size(); ++i) ASSERT_NEAR(double(out[i]), expected[i], 1e-6);
}

TEST(Augment, DrawIsAFunctionOfSeedEpochAndIndex) {
  const auto draw = [](uint64_t seed, int64_t epoch, int64_t index) {
    const AugmentDraw d = Augmenter(32, 32, training_augmentation({}, seed)).draw(epoch, index);
    return std::tuple(d.dy, d.dx, d.flip);
  };
  int same_seed = 0, same_epoch = 0, same_index = 0;
  for (int64_t i = 0; i < 200; ++i) {
    EXPECT_EQ(draw(1, 2, i), draw(1, 2, i));
    same_seed += draw(1, 2, i) == draw(2, 2, i);
    same_epoch += draw(1, 2, i) == draw(1, 3, i);
    same_index += draw(1, 2, i) == draw(1, 2, i + 1);
  }
  // 162 outcomes: about one coincidence in 200 is chance.
  EXPECT_LT(same_seed, 10);
  EXPECT_LT(same_epoch, 10);
  EXPECT_LT(same_index, 10);
}

TEST(Augment, DrawsAreUniform) {
  const Augmenter augmenter(32, 32, training_augmentation({}, 5));
  constexpr int kDraws = 90'000;
  std::map<int, int> dy, dx;
  int flips = 0;
  for (int64_t i = 0; i < kDraws; ++i) {
    const AugmentDraw d = augmenter.draw(0, i);
    ++dy[d.dy];
    ++dx[d.dx];
    flips += d.flip;
  }
  ASSERT_EQ(dy.size(), 9u);
  ASSERT_EQ(dx.size(), 9u);
  EXPECT_EQ(dy.begin()->first, -4);
  for (const auto& counts : {dy, dx})
    for (const auto& [offset, count] : counts) EXPECT_NEAR(count, kDraws / 9, 500) << offset;  // 5 sigma
  EXPECT_NEAR(flips, kDraws / 2, 750);
}

TEST(Augment, RefusesImpossibleParameters) {
  AugmentParams params;
  params.crop_padding = -1;
  EXPECT_THROW(Augmenter(32, 32, params), Error);
  params.crop_padding = 33;
  EXPECT_THROW(Augmenter(32, 32, params), Error);
  params = {};
  params.statistics.std[1] = 0;
  EXPECT_THROW(Augmenter(32, 32, params), Error);
  std::vector<float> out(32 * 32 * kChannels);
  EXPECT_THROW(Augmenter(32, 32, {}).apply(random_pixels(), {}, out.data()), Error);
}

}  // namespace
}  // namespace plume::data
