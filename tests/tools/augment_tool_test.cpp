// augment as a user runs it: what the picture shows, and what is refused.
#include <gtest/gtest.h>

#include <filesystem>

#include "data/images/image.h"
#include "engine/core/error.h"
#include "tests/support/test_support.h"
#include "tests/support/tool_runner.h"
#include "tools/pictures/sheet.h"

namespace plume::test::augment_tool_test {
namespace {

class AugmentTool : public testing::Test {
 protected:
  // The picture for these flags.
  data::Image picture(std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--out", folder_.file("sheet.png"), "--device", "cpu"});
    const ToolResult result = run_tool("augment", arguments);
    EXPECT_EQ(result.code, 0) << result.err;
    return data::load_image(folder_.file("sheet.png"));
  }
  TemporaryFolder folder_;
};

TEST_F(AugmentTool, TheSameSeedGivesTheSamePictureOnEveryDevice) {
  const std::vector<std::string> flags{"--count", "6", "--columns", "3", "--auto-augment", "cifar10"};
  const data::Image first = picture(flags);
  EXPECT_EQ(first.width, 3 * (96 + 6) + 6);
  EXPECT_EQ(picture(flags).pixels, first.pixels);
  std::vector<std::string> other = flags;
  other.insert(other.end(), {"--seed", "2"});
  EXPECT_NE(picture(other).pixels, first.pixels);
  const ToolResult simt = run_tool("augment", {"--count", "6", "--columns", "3", "--auto-augment", "cifar10",
                                               "--device", "simt", "--out", folder_.file("simt.png")});
  EXPECT_EQ(simt.code, 0) << simt.err;
  EXPECT_EQ(data::load_image(folder_.file("simt.png")).pixels, first.pixels);
}

TEST_F(AugmentTool, MixedSamplesHaveTwoCaptions) {
  const data::Image plain = picture({"--count", "8"});
  const data::Image mixed = picture({"--count", "8", "--mixup", "1", "--cutmix", "1", "--erasing", "1"});
  EXPECT_EQ(mixed.width, plain.width);
  EXPECT_GT(mixed.height, plain.height);
}

TEST_F(AugmentTool, SizesAndRepeatsAreAsAsked) {
  const data::Image image = picture({"--count", "2", "--repeat", "3", "--columns", "3", "--image-size", "112",
                                     "--random-resized-crop", "--shuffle"});
  EXPECT_EQ(image.width, 3 * (112 + 6) + 6);
  EXPECT_EQ(image.height, 2 * (112 + 3 + 10 + 6) + 6);
}

TEST_F(AugmentTool, RefusesInOneLine) {
  const std::string out = folder_.file("sheet.png");
  expect_refusal(run_tool("augment", {}), 2, {"--out"});
  expect_refusal(run_tool("augment", {"--out", folder_.file("sheet.jpg")}), 2, {"--out", ".png"});
  expect_refusal(run_tool("augment", {"--out", out, "--auto-augment", "augmix"}), 2, {"--auto-augment"});
  expect_refusal(run_tool("augment", {"--out", out, "--erasing", "1.5"}), 2, {"--erasing"});
  expect_refusal(run_tool("augment", {"--out", out, "--count", "100", "--repeat", "100"}), 2,
                 {"10000", "4096"});
  expect_refusal(run_tool("augment", {"--out", out, "--data", "cifar10", "--device", "cpu"}), 2, {"cifar10"});
  EXPECT_FALSE(std::filesystem::exists(out));
}

TEST(ContactSheet, RefusesImagesOfSeveralSizes) {
  const data::Image a{1, 1, {1, 2, 3}}, b{1, 2, {1, 2, 3, 4, 5, 6}};
  EXPECT_THROW(tools::contact_sheet({{a, {}}, {b, {}}}, 2), Error);
  EXPECT_THROW(tools::contact_sheet({}, 2), Error);
}

TEST(ContactSheet, EnlargesAndCaptions) {
  const data::Image a{2, 2, {10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120}};
  const data::Image sheet = tools::contact_sheet({{a, {"i"}}}, 1, 9);
  ASSERT_EQ(sheet.width, 10 + 12);  // five times as large, and margins
  ASSERT_EQ(sheet.height, 10 + 3 + 10 + 12);
  const auto at = [&](int y, int x) { return int(sheet.pixels[size_t((y * sheet.width + x) * 3)]); };
  EXPECT_EQ(at(6, 6), 10);
  EXPECT_EQ(at(10, 11), 40);
  EXPECT_EQ(at(15, 15), 100);
  int ink = 0;
  for (int y = 16; y < sheet.height; ++y)
    for (int x = 0; x < sheet.width; ++x) ink += at(y, x) == 230;
  EXPECT_EQ(ink, 11);  // of an I: two bars of three and a stem of five
}

}  // namespace
}  // namespace plume::test::augment_tool_test
