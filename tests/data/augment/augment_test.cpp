#include "data/augment/augment.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>
#include <tuple>

#include "engine/core/error.h"
#include "engine/core/random.h"
#include "tests/support/drawn_images.h"
#include "tests/support/preprocessed.h"

namespace plume::data::augment_test {
namespace {

constexpr int kHeight = 7, kWidth = 9;

Sample sample_of(const Image& image) { return {image.pixels, image.height, image.width, 0}; }

AugmentPlan plan_of(const Augmenter& augmenter, ImageSize size, int64_t epoch, int64_t index) {
  TapTable taps;
  return augmenter.plan(size, epoch, index, taps);
}

// The definition of crop, flip and normalisation, pixel by pixel and in double precision.
std::vector<double> reference(const Image& image, int dy, int dx, bool flip,
                              const ChannelStatistics& statistics) {
  std::vector<double> out;
  for (int y = 0; y < image.height; ++y)
    for (int x = 0; x < image.width; ++x)
      for (int c = 0; c < kChannels; ++c) {
        const int sy = y + dy, sx = (flip ? image.width - 1 - x : x) + dx;
        const bool inside = sy >= 0 && sy < image.height && sx >= 0 && sx < image.width;
        const double value = inside ? image.pixels[size_t((sy * image.width + sx) * kChannels + c)] : 0;
        out.push_back((value / 255 - double(statistics.mean[size_t(c)])) / double(statistics.std[size_t(c)]));
      }
  return out;
}

TEST(Augment, EveryCropAndFlipMatchesTheDefinition) {
  const Image image = test::draw("noise", kHeight, kWidth);
  AugmentParams params = test::cifar_augmentation(kImageNetStatistics, 1);
  const Augmenter augmenter(kHeight, kWidth, params);
  std::vector<float> out(image.pixels.size());
  std::set<std::tuple<int, int, bool>> seen;
  for (int64_t i = 0; i < 2000; ++i) {
    const AugmentPlan plan = plan_of(augmenter, {kHeight, kWidth}, 0, i);
    if (!seen.emplace(plan.source.top, plan.source.left, plan.flip != 0).second) continue;
    augmenter(sample_of(image), 0, i, out.data());
    const auto expected =
        reference(image, plan.source.top, plan.source.left, plan.flip != 0, params.statistics);
    for (size_t k = 0; k < out.size(); ++k) ASSERT_NEAR(double(out[k]), expected[k], 1e-6) << i << " " << k;
  }
  EXPECT_EQ(seen.size(), 9u * 9u * 2u);
}

TEST(Augment, CropMayLeaveTheImageEntirely) {
  const Image image = test::draw("noise", kHeight, kWidth);
  AugmentPlan plan;
  plan.height = kHeight, plan.width = kWidth;
  plan.target = {0, 0, kHeight, kWidth};
  std::vector<float> out(image.pixels.size());
  AugmentScratch scratch;
  for (const auto& [top, left] : {std::pair{0, -kWidth}, {0, kWidth}, {kHeight, 0}, {-100, 100}}) {
    plan.source = {top, left, kHeight, kWidth};
    std::fill(out.begin(), out.end(), 1.0f);
    augment_image(plan, image.pixels.data(), nullptr, {kHeight, kWidth, {}}, out.data(), scratch);
    for (const float v : out) ASSERT_EQ(v, 0.0f);
  }
}

TEST(Augment, EvaluationOnlyNormalises) {
  const Image image = test::draw("noise", kHeight, kWidth);
  const Augmenter augmenter(kHeight, kWidth, {.statistics = kImageNetStatistics});
  std::vector<float> out(image.pixels.size());
  augmenter(sample_of(image), 3, 14, out.data());
  const auto expected = reference(image, 0, 0, false, kImageNetStatistics);
  for (size_t i = 0; i < out.size(); ++i) ASSERT_NEAR(double(out[i]), expected[i], 1e-6);
}

TEST(Augment, EvaluationCropsAsTheResizeDoes) {
  const std::tuple<int, int, int, int> cases[] = {{37, 53, 36, 32}, {53, 37, 36, 32}, {32, 32, 256, 224},
                                                  {20, 90, 30, 40}, {36, 36, 36, 32}, {8, 9, 8, 8}};
  for (const auto& [height, width, shorter, size] : cases) {
    const Image image = test::draw("noise", height, width);
    const Augmenter augmenter(0, 0, {.output_height = size, .output_width = size, .resize_shorter = shorter});
    EXPECT_EQ(augmenter.picture(sample_of(image), 0, 0).pixels,
              test::resize_and_crop(image, shorter, size).pixels)
        << height << "x" << width << " " << shorter << " " << size;
  }
}

TEST(Augment, PaddedCropIsResizedToTheOutput) {
  const Image image = test::draw("noise", 32, 32);
  AugmentParams params = test::cifar_augmentation({}, 3);
  const Augmenter native(32, 32, params);
  params.output_height = params.output_width = 224;
  const Augmenter large(32, 32, params);
  for (int64_t i = 0; i < 5; ++i) {
    const AugmentPlan plan = plan_of(large, {32, 32}, 0, i);
    Image small = native.picture(sample_of(image), 0, i);
    const Image expected = resize(small, {224, 224});
    EXPECT_EQ(plan.source, plan_of(native, {32, 32}, 0, i).source);
    // Mirroring and resizing commute: the taps are symmetric.
    EXPECT_EQ(large.picture(sample_of(image), 0, i).pixels, expected.pixels) << i;
  }
}

AugmentParams everything(uint64_t seed) {
  AugmentParams params = test::cifar_augmentation(kImageNetStatistics, seed);
  params.crop_padding = 0;
  params.random_resized_crop = true;
  params.output_height = params.output_width = 24;
  params.policy.policy = Policy::randaugment;
  params.erasing = 0.5;
  return params;
}

TEST(Augment, ResizedCropsAreWithinTheirRanges) {
  AugmentParams params = everything(5);
  const Augmenter augmenter(0, 0, params);
  double area = 0, log_ratio = 0;
  constexpr int kDraws = 20'000;
  for (int64_t i = 0; i < kDraws; ++i) {
    const PixelBox box = plan_of(augmenter, {200, 200}, 0, i).source;
    ASSERT_TRUE(box.top >= 0 && box.left >= 0 && box.top + box.height <= 200 && box.left + box.width <= 200);
    ASSERT_TRUE(box.height > 0 && box.width > 0);
    const double share = box.height * box.width / 40'000.0, ratio = double(box.width) / box.height;
    ASSERT_GT(share, 0.075);
    ASSERT_GT(ratio, 0.72);
    ASSERT_LT(ratio, 1.38);
    area += share / kDraws;
    log_ratio += std::log(ratio) / kDraws;
  }
  EXPECT_NEAR(log_ratio, 0, 0.01);
  EXPECT_NEAR(area, 0.48, 0.01);  // as torchvision draws: large boxes of extreme ratios do not fit
  // No box of these ratios fits into a line: the middle of it is taken.
  EXPECT_EQ(plan_of(augmenter, {2, 500}, 0, 0).source, (PixelBox{0, 248, 2, 3}));
  EXPECT_EQ(plan_of(augmenter, {500, 3}, 0, 0).source, (PixelBox{248, 0, 4, 3}));
}

TEST(Augment, ErasesAboutAsOftenAndAsMuchAsAsked) {
  const Augmenter augmenter(0, 0, everything(6));
  int erased = 0;
  constexpr int kDraws = 10'000;
  for (int64_t i = 0; i < kDraws; ++i) {
    const PixelBox box = plan_of(augmenter, {40, 40}, 0, i).erased;
    if (box.height == 0) continue;
    ++erased;
    ASSERT_TRUE(box.top >= 0 && box.left >= 0 && box.top + box.height <= 24 && box.left + box.width <= 24);
    ASSERT_TRUE(box.height < 24 && box.width < 24);
    ASSERT_LT(box.height * box.width, 0.4 * 24 * 24);
  }
  EXPECT_NEAR(erased, kDraws / 2, 250);
}

TEST(Augment, ErasedValuesAreZeroAfterNormalisation) {
  const Image image = test::draw("noise", 40, 40);
  AugmentParams params = everything(7);
  params.erasing = 1;
  const Augmenter with(0, 0, params);
  params.erasing = 0;
  const Augmenter without(0, 0, params);
  std::vector<float> a(24 * 24 * 3), b(a.size());
  for (int64_t i = 0; i < 20; ++i) {
    with(sample_of(image), 0, i, a.data());
    without(sample_of(image), 0, i, b.data());
    const PixelBox box = plan_of(with, {40, 40}, 0, i).erased;
    for (int y = 0; y < 24; ++y)
      for (int x = 0; x < 24; ++x)
        for (int c = 0; c < 3; ++c) {
          const size_t at = size_t((y * 24 + x) * 3 + c);
          ASSERT_EQ(a[at], box.contains(y, x) ? 0.0f : b[at]);
        }
  }
}

TEST(Augment, PoliciesDrawEveryOperationTheyName) {
  for (const std::string& text : policy_names()) {
    const PolicyParams params{.policy = parse_policy(text), .randaugment_ops = 3};
    AugmentParams augment;
    augment.policy = params;
    const Augmenter augmenter(32, 32, augment);
    std::map<int, int> counts;
    std::map<ImageOpKind, int> kinds;
    for (int64_t i = 0; i < 4000; ++i) {
      const AugmentPlan plan = plan_of(augmenter, {32, 32}, 1, i);
      ASSERT_LE(plan.op_count, kMostImageOps);
      ++counts[plan.op_count];
      for (int k = 0; k < plan.op_count; ++k) ++kinds[plan.ops[k].kind];
    }
    const size_t expected = params.policy == Policy::none                   ? 0
                            : params.policy == Policy::autoaugment_cifar10  ? 10
                            : params.policy == Policy::autoaugment_imagenet ? 9   // no brightness
                                                                            : 9;  // no invert
    EXPECT_EQ(kinds.size(), expected) << text;
    EXPECT_EQ(counts.rbegin()->first, params.policy == Policy::none             ? 0
                                      : params.policy == Policy::randaugment    ? 3
                                      : params.policy == Policy::trivialaugment ? 1
                                                                                : 2)
        << text;
  }
}

TEST(Augment, PlansAreAFunctionOfSeedEpochAndIndex) {
  const auto draw = [](uint64_t seed, int64_t epoch, int64_t index) {
    const AugmentPlan p =
        plan_of(Augmenter(32, 32, test::cifar_augmentation({}, seed)), {32, 32}, epoch, index);
    return std::tuple(p.source.top, p.source.left, p.flip);
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

// Training sees windows of the very image that evaluation crops, in its shape.
TEST(Augment, RandomCropsKeepScaleAndShape) {
  constexpr int kSide = 16, kShorter = 18, kPadding = 2;
  AugmentParams params;
  params.output_height = params.output_width = kSide;
  params.resize_shorter = kShorter;
  params.random_crop = true;
  params.crop_padding = kPadding;
  for (const auto& [height, width] : {std::pair{16, 48}, {50, 20}, {18, 18}, {1, 1}}) {
    const Image image = test::draw("noise", height, width);
    const Image whole = resize(image, resized_to_shorter_side({height, width}, kShorter));
    const Augmenter augmenter(0, 0, params);
    std::set<int> tops, lefts;
    for (int64_t i = 0; i < 300; ++i) {
      const Image seen = augmenter.picture(sample_of(image), 3, i);
      ASSERT_EQ(seen.height, kSide);
      ASSERT_EQ(seen.width, kSide);
      const auto matches = [&](int top, int left) {
        for (int y = 0; y < kSide; ++y)
          for (int x = 0; x < kSide; ++x)
            for (int c = 0; c < kChannels; ++c) {
              const int from_y = y + top, from_x = x + left;
              const bool inside = from_y >= 0 && from_y < whole.height && from_x >= 0 && from_x < whole.width;
              const int value =
                  inside ? whole.pixels[size_t((from_y * whole.width + from_x) * kChannels + c)] : 0;
              if (seen.pixels[size_t((y * kSide + x) * kChannels + c)] != value) return false;
            }
        return true;
      };
      bool found = false;
      for (int top = -kPadding; top <= whole.height - kSide + kPadding && !found; ++top)
        for (int left = -kPadding; left <= whole.width - kSide + kPadding && !found; ++left)
          if (matches(top, left)) {
            found = true;
            tops.insert(top), lefts.insert(left);
          }
      ASSERT_TRUE(found) << height << "x" << width << " " << i;
    }
    if (height == 1) continue;  // of one colour
    EXPECT_EQ(tops.size(), size_t(std::min(whole.height - kSide + 2 * kPadding + 1, 300)));
    EXPECT_GT(lefts.size(), size_t(whole.width - kSide + 2 * kPadding) * 9 / 10);
  }
}

// A strip of 3000x8 pixels is 96000x256 when it is resized; only the window that is wanted is made.
TEST(Augment, AStripCostsNoMoreThanItsCrop) {
  AugmentParams params;
  params.output_height = params.output_width = 224;
  params.resize_shorter = 256;
  const Image strip = test::draw("smooth", 8, 3000);
  EXPECT_EQ(Augmenter(0, 0, params).picture(sample_of(strip), 0, 0).pixels,
            test::resize_and_crop(strip, 256, 224).pixels);
  params.random_crop = true;
  params.crop_padding = 4;
  for (const auto& [height, width] : {std::pair{8, 3000}, {700, 3}, {1, 1}, {1, int(kMostResizeSide)}}) {
    TapTable taps;
    const AugmentPlan plan = Augmenter(0, 0, params).plan({height, width}, 0, 1, taps);
    EXPECT_LE(plan.target.height, 224);
    EXPECT_LE(plan.target.width, 224);
    EXPECT_LT(taps.values().size(), 10'000u);
  }
}

// What one stage draws does not depend on which others are on.
TEST(Augment, StagesDrawFromNumbersOfTheirOwn) {
  AugmentParams params = everything(8);
  const Augmenter all(0, 0, params);
  params.policy.policy = Policy::none;
  const Augmenter no_policy(0, 0, params);
  for (int64_t i = 0; i < 100; ++i) {
    const AugmentPlan a = plan_of(all, {40, 50}, 2, i), b = plan_of(no_policy, {40, 50}, 2, i);
    EXPECT_EQ(a.source, b.source);
    EXPECT_EQ(a.flip, b.flip);
    EXPECT_EQ(a.erased, b.erased);
  }
}

TEST(Augment, DrawsAreUniform) {
  const Augmenter augmenter(32, 32, test::cifar_augmentation({}, 5));
  constexpr int kDraws = 90'000;
  std::map<int, int> dy, dx;
  int flips = 0;
  TapTable taps;
  for (int64_t i = 0; i < kDraws; ++i) {
    const AugmentPlan plan = augmenter.plan({32, 32}, 0, i, taps);
    ++dy[plan.source.top];
    ++dx[plan.source.left];
    flips += plan.flip;
  }
  ASSERT_EQ(dy.size(), 9u);
  ASSERT_EQ(dx.size(), 9u);
  EXPECT_EQ(dy.begin()->first, -4);
  for (const auto& counts : {dy, dx})
    for (const auto& [offset, count] : counts) EXPECT_NEAR(count, kDraws / 9, 500) << offset;  // 5 sigma
  EXPECT_NEAR(flips, kDraws / 2, 750);
}

TEST(Augment, RefusesImpossibleParameters) {
  const auto refuses = [](auto change) {
    AugmentParams params;
    change(params);
    EXPECT_THROW(Augmenter(32, 32, params), Error);
  };
  refuses([](AugmentParams& p) { p.crop_padding = -1; });
  refuses([](AugmentParams& p) { p.crop_padding = 4, p.random_resized_crop = true; });
  refuses([](AugmentParams& p) { p.crop_padding = 4, p.resize_shorter = 36; });
  refuses([](AugmentParams& p) { p.random_crop = true; });
  refuses([](AugmentParams& p) { p.random_crop = p.random_resized_crop = true, p.resize_shorter = 36; });
  refuses([](AugmentParams& p) { p.scale_low = 0; });
  refuses([](AugmentParams& p) { p.scale_high = 1.5; });
  refuses([](AugmentParams& p) { p.ratio_low = 2; });
  refuses([](AugmentParams& p) { p.output_width = kMostAugmentSide + 1; });
  refuses([](AugmentParams& p) { p.erasing = 1.1; });
  refuses([](AugmentParams& p) { p.policy.randaugment_ops = 5; });
  refuses([](AugmentParams& p) { p.policy.randaugment_magnitude = 31; });
  refuses([](AugmentParams& p) { p.statistics.std[1] = 0; });
  EXPECT_THROW(Augmenter(0, 0, {}), Error);
  std::vector<float> out(32 * 32 * kChannels);
  const Image image = test::draw("noise", kHeight, kWidth);
  EXPECT_THROW(Augmenter(32, 32, {})({image.pixels, 32, 32, 0}, 0, 0, out.data()), Error);
}

}  // namespace
}  // namespace plume::data::augment_test
