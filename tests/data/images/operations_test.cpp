#include "data/images/operations.h"

#include <gtest/gtest.h>

#include <map>
#include <sstream>

#include "data/augment/augment.h"
#include "data/augment/policies.h"
#include "engine/core/error.h"
#include "engine/math/augment_image.h"
#include "tests/support/drawn_images.h"
#include "tests/support/test_support.h"

namespace plume::data::operations_test {
namespace {

// Calls f(words of the line) for each line of the fixture that begins with `kind`; returns how many.
template <class F>
int for_each_line(const std::string& kind, const F& f) {
  std::istringstream lines(test::read_file(test::fixture("image_ops_pillow.txt")));
  int count = 0;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string first;
    words >> first;
    if (first != kind) continue;
    f(words);
    ++count;
  }
  return count;
}

TEST(ImageOps, GivePillowsBytes) {
  AugmentScratch scratch;
  std::map<std::string, int> checked;
  for_each_line("op", [&](std::istringstream& words) {
    std::string content, op;
    int height = 0, width = 0;
    double magnitude = 0;
    uint64_t hash = 0;
    words >> content >> height >> width >> op >> magnitude >> std::hex >> hash;
    ASSERT_TRUE(words) << words.str();
    Image image = test::draw(content, height, width);
    apply_image_op(make_image_op(parse_image_op(op), magnitude, height, width), height, width, image.pixels,
                   scratch);
    EXPECT_EQ(test::fnv1a(image.pixels), hash) << words.str();
    ++checked[op];
  });
  EXPECT_EQ(checked.size(), size_t(kImageOpNames));
  for (const auto& [op, count] : checked) EXPECT_GE(count, 32) << op;
}

TEST(ImageOps, CutsAreTorchvisions) {
  AugmentScratch scratch;
  const int lines = for_each_line("cut", [&](std::istringstream& words) {
    std::string content;
    int to_height = 0, to_width = 0;
    uint64_t hash = 0;
    AugmentPlan plan;
    PixelBox& box = plan.source;
    words >> content >> plan.height >> plan.width >> box.top >> box.left >> box.height >> box.width >>
        to_height >> to_width >> plan.flip >> std::hex >> hash;
    ASSERT_TRUE(words) << words.str();
    TapTable taps;
    if (box.height != to_height || box.width != to_width) {
      plan.column_taps = taps.add({box.width, to_width, 0, to_width}, ResampleFilter::triangle);
      plan.row_taps = taps.add({box.height, to_height, 0, to_height}, ResampleFilter::triangle);
    }
    plan.target = {0, 0, to_height, to_width};
    const Image image = test::draw(content, plan.height, plan.width);
    augment_bytes(plan, image.pixels.data(), taps.values().data(), to_height, to_width, scratch);
    EXPECT_EQ(test::fnv1a(scratch.image), hash) << words.str();
  });
  EXPECT_EQ(lines, 16);
}

// A translation is cut off to whole pixels, so that the last digit of a magnitude matters.
TEST(ImageOps, MagnitudesAreTorchvisions) {
  const int lines = for_each_line("bin", [&](std::istringstream& words) {
    std::string space, op;
    int height = 0, width = 0, bins = 0;
    words >> space >> op >> height >> width >> bins;
    for (int bin = 0; bin < bins; ++bin) {
      double expected = 0;
      words >> expected;
      const ImageOpName name = parse_image_op(op);
      const double got = space == "trivialaugment" ? trivialaugment_magnitude(name, bin, bins)
                                                   : autoaugment_magnitude(name, bin, bins, height, width);
      EXPECT_NEAR(got, expected, 2e-7 * expected) << words.str() << " bin " << bin;
      const ImageOp ours = make_image_op(name, got, height, width);
      const ImageOp theirs = make_image_op(name, expected, height, width);
      EXPECT_EQ(ours.level, theirs.level) << words.str() << " bin " << bin;
      for (int i = 0; i < 6; ++i)
        EXPECT_EQ(ours.affine[i], theirs.affine[i]) << words.str() << " bin " << bin;
    }
    EXPECT_TRUE(words) << words.str();
  });
  EXPECT_EQ(lines, 4 * 3 * 11);
}

TEST(ImageOps, AutoAugmentsTablesAreTorchvisions) {
  std::map<std::string, size_t> rows;
  for_each_line("row", [&](std::istringstream& words) {
    std::string policy;
    words >> policy;
    const auto table = autoaugment_table(parse_policy(policy));
    ASSERT_EQ(table.size(), 25u);
    for (const SubPolicy::Step& step : table[rows[policy]++].steps) {
      std::string op;
      double probability = 0;
      int bin = 0;
      words >> op >> probability >> bin;
      EXPECT_STREQ(name(step.op), op.c_str());
      EXPECT_EQ(step.probability, probability);
      EXPECT_EQ(step.bin, bin);
    }
  });
  EXPECT_EQ(rows["autoaugment_cifar10"], 25u);
  EXPECT_EQ(rows["autoaugment_imagenet"], 25u);
}

// A few by hand.
TEST(ImageOps, MeanWhatTheyAreCalled) {
  AugmentScratch scratch;
  const auto apply = [&](ImageOpName op, double magnitude, std::vector<uint8_t> pixels) {
    apply_image_op(make_image_op(op, magnitude, 1, int(pixels.size() / 3)), 1, int(pixels.size() / 3), pixels,
                   scratch);
    return pixels;
  };
  using Bytes = std::vector<uint8_t>;
  const Bytes two{10, 20, 30, 200, 100, 0};
  EXPECT_EQ(apply(ImageOpName::invert, 0, two), (Bytes{245, 235, 225, 55, 155, 255}));
  EXPECT_EQ(apply(ImageOpName::solarize, 100, two), (Bytes{10, 20, 30, 55, 155, 0}));
  EXPECT_EQ(apply(ImageOpName::posterize, 1, two), (Bytes{0, 0, 0, 128, 0, 0}));
  EXPECT_EQ(apply(ImageOpName::translate_x, 1.9, two), (Bytes{0, 0, 0, 10, 20, 30}));
  EXPECT_EQ(apply(ImageOpName::translate_x, -1.9, two), (Bytes{200, 100, 0, 0, 0, 0}));
  EXPECT_EQ(apply(ImageOpName::rotate, 180, two), (Bytes{200, 100, 0, 10, 20, 30}));
  EXPECT_EQ(apply(ImageOpName::brightness, 0.5, two), (Bytes{15, 30, 45, 255, 150, 0}));
  EXPECT_EQ(apply(ImageOpName::autocontrast, 0, two), (Bytes{0, 0, 255, 255, 255, 0}));
  EXPECT_EQ(apply(ImageOpName::identity, 0, two), two);
}

TEST(ImageOps, UnknownNamesAreRefused) {
  EXPECT_THROW(parse_image_op("Blur"), Error);
  EXPECT_THROW(parse_policy("augmix"), Error);
  EXPECT_EQ(parse_policy("cifar10"), Policy::autoaugment_cifar10);
  for (const std::string& policy : policy_names()) EXPECT_EQ(name(parse_policy(policy)), policy);
}

}  // namespace
}  // namespace plume::data::operations_test
