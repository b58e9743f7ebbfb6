#include "data/images/resize.h"

#include <gtest/gtest.h>

#include <map>
#include <sstream>

#include "engine/core/error.h"
#include "tests/support/drawn_images.h"
#include "tests/support/preprocessed.h"
#include "tests/support/test_support.h"

namespace plume::data::resize_test {
namespace {

using test::draw;
using test::fnv1a;
using test::resize_and_crop;

TEST(Resize, GivesPillowsBytes) {
  std::istringstream lines(test::read_file(test::fixture("resize_pillow.txt")));
  std::string line;
  std::map<std::string, int> checked;
  while (std::getline(lines, line)) {
    if (line.starts_with("#")) continue;
    std::istringstream in(line);
    std::string what, content, filter;
    int height = 0, width = 0;
    int64_t a = 0, b = 0;
    uint64_t hash = 0;
    in >> what >> content >> height >> width >> filter >> a >> b >> std::hex >> hash;
    ASSERT_TRUE(in) << line;
    const Image image = draw(content, height, width);
    const Interpolation interpolation = parse_interpolation(filter);
    const Image out =
        what == "crop" ? resize_and_crop(image, a, b, interpolation) : resize(image, {a, b}, interpolation);
    EXPECT_EQ(fnv1a(out.pixels), hash) << line;
    ++checked[what];
  }
  EXPECT_EQ(checked["resize"], 25 * 6);
  EXPECT_EQ(checked["crop"], 20 * 6);
}

// By hand: a byte is the mean of what falls into it, rounded up from a half.
TEST(Resize, HalvesByTheTriangle) {
  const Image image{1, 4, {0, 0, 0, 100, 100, 100, 200, 200, 200, 40, 40, 40}};
  const Image out = resize(image, {1, 2});
  // Weights 3/8 3/8 1/8 of the first three, divided by 7/8; and 1/8 3/8 3/8 of the last three.
  const auto left = uint8_t((3 * 0 + 3 * 100 + 1 * 200) / 7.0 + 0.5),
             right = uint8_t((1 * 100 + 3 * 200 + 3 * 40) / 7.0 + 0.5);
  EXPECT_EQ(out.pixels, (std::vector<uint8_t>{left, left, left, right, right, right}));
}

TEST(Resize, OfTheSameSizeChangesNothing) {
  const Image image = draw("noise", 31, 17);
  for (const Interpolation i : {Interpolation::bilinear, Interpolation::bicubic})
    EXPECT_EQ(resize(image, {31, 17}, i).pixels, image.pixels);
}

TEST(Resize, AWindowIsAPartOfTheWhole) {
  const Image image = draw("noise", 37, 53);
  const ImageSize size{61, 29};
  for (const Interpolation i : {Interpolation::bilinear, Interpolation::bicubic}) {
    const Image whole = resize(image, size, i);
    for (const Window& w : {Window{0, 0, {61, 29}}, Window{60, 28, {1, 1}}, Window{13, 7, {20, 11}},
                            Window{-3, -5, {70, 40}}, Window{50, 20, {30, 30}}, Window{90, 0, {4, 4}}}) {
      const Image part = resize(image, size, w, i);
      ASSERT_EQ(part.height, w.size.height);
      ASSERT_EQ(part.width, w.size.width);
      for (int64_t y = 0; y < w.size.height; ++y)
        for (int64_t x = 0; x < w.size.width; ++x)
          for (int64_t c = 0; c < 3; ++c) {
            const int64_t sy = y + w.top, sx = x + w.left;
            const bool inside = sy >= 0 && sx >= 0 && sy < size.height && sx < size.width;
            ASSERT_EQ(part.pixels[size_t((y * w.size.width + x) * 3 + c)],
                      inside ? whole.pixels[size_t((sy * size.width + sx) * 3 + c)] : 0)
                << y << " " << x;
          }
    }
  }
}

TEST(Resize, SizesAreTorchvisions) {
  EXPECT_EQ(resized_to_shorter_side({375, 500}, 256), (ImageSize{256, 341}));
  EXPECT_EQ(resized_to_shorter_side({500, 375}, 256), (ImageSize{341, 256}));
  EXPECT_EQ(resized_to_shorter_side({32, 32}, 232), (ImageSize{232, 232}));
  EXPECT_EQ(resized_to_shorter_side({1, 1'000'000}, 256), (ImageSize{256, 256'000'000}));
  EXPECT_EQ(center_window({256, 341}, {224, 224}).left, 58);  // 58.5
  EXPECT_EQ(center_window({256, 343}, {224, 224}).left, 60);  // 59.5
  EXPECT_EQ(center_window({256, 341}, {224, 224}).top, 16);
  EXPECT_EQ(center_window({223, 224}, {224, 224}).top, 0);
  EXPECT_EQ(center_window({221, 224}, {224, 224}).top, -1);
}

// The whole would have 65 thousand million pixels.
TEST(Resize, APanoramaCostsWhatItsCropDoes) {
  Image image{1, 1 << 20, std::vector<uint8_t>(size_t(3) << 20, 7)};
  const Image out = resize_and_crop(image, 256, 224);
  EXPECT_EQ(out.pixels, std::vector<uint8_t>(224 * 224 * 3, 7));
}

TEST(Resize, RefusesEmptyAndHugeSizes) {
  const Image image = draw("noise", 4, 4);
  EXPECT_THROW(resize(image, {0, 4}), Error);
  EXPECT_THROW(resize(image, {4, -1}), Error);
  EXPECT_THROW(resize(Image{}, {4, 4}), Error);
  EXPECT_THROW(resize(image, {4, 4}, Window{0, 0, {0, 4}}, Interpolation::bilinear), Error);
  EXPECT_THROW(resize_and_crop(image, 0, 4), Error);
  EXPECT_THROW(resize_and_crop(image, 4, 0), Error);
  EXPECT_THROW(resize_and_crop(image, int64_t(1) << 40, 4), Error);
  EXPECT_THROW(parse_interpolation("nearest"), Error);
}

}  // namespace
}  // namespace plume::data::resize_test
