#include "data/images/image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>

#include "engine/core/error.h"
#include "engine/core/random.h"
#include "tests/support/test_support.h"

#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
#include <stb/stb_image_write.h>

namespace plume::data {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr int kHeight = 11, kWidth = 13;

// Smooth, so that JPEG stays close.
std::vector<uint8_t> gradient(int channels) {
  std::vector<uint8_t> pixels;
  for (int y = 0; y < kHeight; ++y)
    for (int x = 0; x < kWidth; ++x)
      for (int c = 0; c < channels; ++c) pixels.push_back(uint8_t(40 + 10 * y + 5 * x * (c == 1) + 20 * c));
  return pixels;
}

void append(void* to, void* data, int size) {
  auto& bytes = *static_cast<std::vector<uint8_t>*>(to);
  const auto* first = static_cast<const uint8_t*>(data);
  bytes.insert(bytes.end(), first, first + size);
}
std::vector<uint8_t> png(int channels = 3) {
  std::vector<uint8_t> bytes;
  stbi_write_png_to_func(append, &bytes, kWidth, kHeight, channels, gradient(channels).data(), 0);
  return bytes;
}
std::vector<uint8_t> jpeg() {
  std::vector<uint8_t> bytes;
  stbi_write_jpg_to_func(append, &bytes, kWidth, kHeight, 3, gradient(3).data(), 95);
  return bytes;
}

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::bad_input) << e.what();
    return e.what();
  }
  return "";
}
std::string decode_error(const std::vector<uint8_t>& bytes) {
  return error_of([&] { decode_image(bytes, "x.JPEG"); });
}

TEST(Image, DecodesPng) {
  const Image image = decode_image(png(), "x.png");
  EXPECT_EQ(image.height, kHeight);
  EXPECT_EQ(image.width, kWidth);
  EXPECT_EQ(image.pixels, gradient(3));
}

TEST(Image, GreyIsRepeatedAndAlphaDropped) {
  const Image grey = decode_image(png(1), "x.png");
  const auto level = gradient(1);
  ASSERT_EQ(grey.pixels.size(), level.size() * 3);
  for (size_t i = 0; i < grey.pixels.size(); ++i) ASSERT_EQ(grey.pixels[i], level[i / 3]);
  const Image transparent = decode_image(png(4), "x.png");
  const auto four = gradient(4);
  for (size_t i = 0; i < transparent.pixels.size(); ++i)
    ASSERT_EQ(transparent.pixels[i], four[i / 3 * 4 + i % 3]);
}

TEST(Image, DecodesJpeg) {
  const Image image = decode_image(jpeg(), "x.jpg");
  const auto expected = gradient(3);
  ASSERT_EQ(image.pixels.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) ASSERT_NEAR(int(image.pixels[i]), int(expected[i]), 12);
}

TEST(Image, RefusesEveryTruncation) {
  for (const auto& whole : {png(), jpeg()})
    for (size_t size = 0; size < whole.size(); ++size)
      ASSERT_THAT(decode_error({whole.begin(), whole.begin() + std::ptrdiff_t(size)}), HasSubstr("x.JPEG: "))
          << size << " of " << whole.size();
}

TEST(Image, RefusesEveryFlippedBitOfAPng) {
  const auto whole = png();
  for (size_t bit = 0; bit < whole.size() * 8; ++bit) {
    auto damaged = whole;
    damaged[bit / 8] ^= uint8_t(1 << bit % 8);
    ASSERT_NE(decode_error(damaged), "") << "bit " << bit;
  }
}

// A JPEG has no checksum: damage may go unnoticed, but never more than that.
TEST(Image, SurvivesEveryDamagedByteOfAJpeg) {
  const auto whole = jpeg();
  RandomSequence random(3);
  int refused = 0;
  for (size_t i = 0; i < whole.size(); ++i)
    for (int repeat = 0; repeat < 4; ++repeat) {
      auto damaged = whole;
      damaged[i] ^= uint8_t(1 + random.below(255));
      refused += !decode_error(damaged).empty();
    }
  EXPECT_GT(refused, 0);
}

TEST(Image, NamesUnsupportedJpegs) {
  const auto whole = jpeg();
  size_t frame = 0;
  while (!(whole[frame] == 0xFF && whole[frame + 1] == 0xC0)) ++frame;
  const auto changed = [&](size_t offset, uint8_t value) {
    auto bytes = whole;
    bytes[frame + offset] = value;
    return decode_error(bytes);
  };
  EXPECT_THAT(changed(1, 0xC9), HasSubstr("arithmetic"));
  EXPECT_THAT(changed(1, 0xC3), HasSubstr("lossless"));
  EXPECT_THAT(changed(4, 12), HasSubstr("12 bits"));
  EXPECT_THAT(changed(9, 4), HasSubstr("4 components"));
}

TEST(Image, RefusesOverfullHuffmanTables) {
  auto bytes = jpeg();
  size_t table = 0;
  while (!(bytes[table] == 0xFF && bytes[table + 1] == 0xC4)) ++table;
  bytes[table + 5 + 15] = 255;  // codes of 16 bits
  EXPECT_THAT(decode_error(bytes), HasSubstr("Huffman"));
  bytes[table + 5 + 14] = 255;
  EXPECT_THAT(decode_error(bytes), HasSubstr("more than fit"));
}

TEST(Image, RefusesHugeSizesBeforeAllocating) {
  auto bytes = jpeg();
  size_t frame = 0;
  while (!(bytes[frame] == 0xFF && bytes[frame + 1] == 0xC0)) ++frame;
  for (size_t i = 5; i < 9; ++i) bytes[frame + i] = 0xFF;
  EXPECT_THAT(decode_error(bytes), HasSubstr("65535x65535 pixels"));
}

TEST(Image, NamesOtherContent) {
  const auto named = [](std::string_view text) { return decode_error({text.begin(), text.end()}); };
  EXPECT_THAT(named("GIF89a..."), HasSubstr("a GIF image"));
  EXPECT_THAT(named("<html><body>"), HasSubstr("HTML"));
  EXPECT_THAT(named("version https://git-lfs.github.com/spec/v1"), HasSubstr("Git LFS"));
  EXPECT_THAT(named(""), HasSubstr("nothing"));
  EXPECT_THAT(named("hello"), HasSubstr("expected a JPEG or PNG"));
}

TEST(Image, LoadsFilesAndNamesThePathOtherwise) {
  test::TemporaryFolder folder;
  const auto bytes = png();
  test::write_file(folder.file("a.png"), std::string(bytes.begin(), bytes.end()));
  EXPECT_EQ(load_image(folder.file("a.png")).pixels, gradient(3));
  const auto load_error = [](const std::string& path) { return error_of([&] { load_image(path); }); };
  EXPECT_THAT(load_error(folder.file("b.png")), AllOf(HasSubstr("b.png"), HasSubstr("No such file")));
  EXPECT_THAT(load_error(folder.path().string()), HasSubstr("is a folder"));
  EXPECT_THAT(load_error("/dev/zero"), HasSubstr("is a device"));
  test::write_file(folder.file("empty.png"), "");
  EXPECT_THAT(load_error(folder.file("empty.png")), HasSubstr("is empty"));
  test::write_file(folder.file("big.png"), "");
  std::filesystem::resize_file(folder.file("big.png"), uintmax_t(kMostImageBytes) + 1);
  EXPECT_THAT(load_error(folder.file("big.png")), HasSubstr("has 67108865 bytes"));
}

}  // namespace
}  // namespace plume::data
