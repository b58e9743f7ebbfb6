#include "data/images/image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <functional>

#include "data/images/png_reader.h"
#include "engine/core/error.h"
#include "engine/core/random.h"
#include "tests/support/test_support.h"

#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
#include <stb/stb_image_write.h>

namespace plume::data::image_test {
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
std::string decode_error(const std::vector<uint8_t>& bytes, const DecodeOptions& options = {}) {
  return error_of([&] { decode_image(bytes, "x.JPEG", options); });
}
constexpr DecodeOptions kOwn{.own_decoders = true};

size_t find(const std::vector<uint8_t>& bytes, std::string_view wanted) {
  const auto at = std::search(bytes.begin(), bytes.end(), wanted.begin(), wanted.end(),
                              [](uint8_t a, char b) { return a == uint8_t(b); });
  return size_t(at - bytes.begin());
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
  for (const DecodeOptions& options : {DecodeOptions{}, kOwn}) {
    const auto refused = [&](const std::vector<uint8_t>& whole, size_t size) {
      ASSERT_THAT(decode_error({whole.begin(), whole.begin() + std::ptrdiff_t(size)}, options),
                  HasSubstr("x.JPEG: "))
          << size << " of " << whole.size();
    };
    for (size_t size = 0; size < jpeg().size(); ++size) refused(jpeg(), size);
    for (size_t size = 0; size < png().size() - 12; ++size) refused(png(), size);
  }
}

// Checksums up to the end of the image data; what is behind them has no pixels.
TEST(Image, RefusesEveryFlippedBitOfAPng) {
  const auto whole = png();
  for (const DecodeOptions& options : {DecodeOptions{}, kOwn})
    for (size_t bit = 0; bit < whole.size() * 8; ++bit) {
      auto damaged = whole;
      damaged[bit / 8] ^= uint8_t(1 << bit % 8);
      if (bit / 8 < whole.size() - 12)
        ASSERT_NE(decode_error(damaged, options), "") << "bit " << bit;
      else
        ASSERT_EQ(decode_image(damaged, "x", options).pixels, gradient(3)) << "bit " << bit;
    }
}

// A JPEG has no checksum: damage may go unnoticed, but never more than that.
TEST(Image, SurvivesEveryDamagedByteOfAJpeg) {
  const auto whole = jpeg();
  for (const DecodeOptions& options : {DecodeOptions{}, kOwn}) {
    RandomSequence random(3);
    int refused = 0;
    for (size_t i = 0; i < whole.size(); ++i)
      for (int repeat = 0; repeat < 4; ++repeat) {
        auto damaged = whole;
        damaged[i] ^= uint8_t(1 + random.below(255));
        refused += !decode_error(damaged, options).empty();
      }
    EXPECT_GT(refused, 0);
  }
}

TEST(Image, NamesUnsupportedJpegs) {
  const auto whole = jpeg();
  const size_t frame = find(whole, "\xFF\xC0");
  const auto changed = [&](size_t offset, uint8_t value, const DecodeOptions& options) {
    auto bytes = whole;
    bytes[frame + offset] = value;
    return decode_error(bytes, options);
  };
  EXPECT_THAT(changed(1, 0xC9, kOwn), HasSubstr("arithmetic"));
  EXPECT_THAT(changed(1, 0xC3, kOwn), HasSubstr("lossless"));
  EXPECT_THAT(changed(4, 12, kOwn), HasSubstr("12 bits"));
  EXPECT_THAT(changed(9, 2, kOwn), HasSubstr("2 components"));
  EXPECT_THAT(changed(1, 0xC3, {}), HasSubstr("x.JPEG: "));
  EXPECT_THAT(changed(4, 12, {}), HasSubstr("12"));
  EXPECT_THAT(changed(9, 2, {}), HasSubstr("x.JPEG: "));
}

TEST(Image, RefusesOverfullHuffmanTables) {
  auto bytes = jpeg();
  const size_t table = find(bytes, "\xFF\xC4");
  bytes[table + 5 + 15] = 255;  // codes of 16 bits
  for (const DecodeOptions& options : {DecodeOptions{}, kOwn})
    EXPECT_THAT(decode_error(bytes, options), HasSubstr("Huffman"));
  bytes[table + 5 + 14] = 255;
  EXPECT_THAT(decode_error(bytes, kOwn), HasSubstr("more than fit"));
  EXPECT_THAT(decode_error(bytes), HasSubstr("Huffman"));
}

// A scan of a few bytes can take the time of all blocks, so that their number is limited.
TEST(Image, RefusesThousandsOfScans) {
  auto bytes = jpeg();
  const size_t frame = find(bytes, "\xFF\xC0"), scan = find(bytes, "\xFF\xDA");
  bytes[frame + 1] = 0xC2;
  bytes.resize(scan);
  for (int i = 0; i < 1000; ++i)  // the constant coefficients' lowest bit, again and again
    for (const int b : {0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 0, 0x10, 0}) bytes.push_back(uint8_t(b));
  for (const int b : {0xFF, 0xD9}) bytes.push_back(uint8_t(b));
  for (const DecodeOptions& options : {DecodeOptions{}, kOwn})
    EXPECT_THAT(decode_error(bytes, options), HasSubstr("more than 500 scans"));
}

TEST(Image, RefusesHugeSizesBeforeAllocating) {
  auto bytes = jpeg();
  const size_t frame = find(bytes, "\xFF\xC0");
  const auto sized = [&](size_t height, size_t width) {
    for (size_t i = 0; i < 2; ++i) bytes[frame + 5 + i] = uint8_t(height >> (8 - 8 * i));
    for (size_t i = 0; i < 2; ++i) bytes[frame + 7 + i] = uint8_t(width >> (8 - 8 * i));
    return std::pair(decode_error(bytes), decode_error(bytes, kOwn));
  };
  const auto both = [](const std::string& text) { return testing::Pair(HasSubstr(text), HasSubstr(text)); };
  EXPECT_THAT(sized(65535, 65535), both("65535x65535 pixels, expected 1 to 178956970"));
  EXPECT_THAT(sized(13379, 13378), both("13378x13379 pixels, expected 1 to"));
  EXPECT_THAT(sized(13377, 13377), both("13377x13377 pixels in"));
  EXPECT_THAT(sized(6120, 8160), both("8160x6120 pixels in"));  // too many for so few bytes
}

TEST(Image, ReadsLargePhotos) {
  std::vector<uint8_t> bytes(size_t(6000) * 4000 + 16, 7);
  std::copy_n("P5\n6000 4000\n255\n", 17, bytes.begin());
  bytes.push_back(9);
  const Image image = decode_image(bytes, "x");
  EXPECT_EQ(image.height, 4000);
  EXPECT_EQ(image.pixels.size(), size_t(6000) * 4000 * 3);
  EXPECT_EQ(image.pixels.front(), 7);
  EXPECT_EQ(image.pixels.back(), 9);
}

// What an image needs is known from its header, however much its data would inflate to.
TEST(Image, OurOwnPngDecoderStopsInflating) {
  std::vector<uint8_t> bytes;
  const std::vector<uint8_t> black(size_t(3000) * 3000);
  stbi_write_png_to_func(append, &bytes, 3000, 3000, 1, black.data(), 0);
  const size_t header = find(bytes, "IHDR");
  for (size_t i = 0; i < 8; ++i) bytes[header + 4 + i] = i % 4 == 3 ? 7 : 0;
  const uint32_t crc = png_checksum({bytes.data() + header, 17});
  for (size_t i = 0; i < 4; ++i) bytes[header + 17 + i] = uint8_t(crc >> (24 - 8 * i));
  EXPECT_THAT(decode_error(bytes, kOwn), HasSubstr("outofmem"));
  if (spng_version()) {
    EXPECT_EQ(decode_image(bytes, "x").pixels, std::vector<uint8_t>(7 * 7 * 3));
  }
}

TEST(Image, NamesOtherContent) {
  const auto named = [](std::string_view text) { return decode_error({text.begin(), text.end()}); };
  EXPECT_THAT(named("GIF89a..."), HasSubstr("a GIF image"));
  EXPECT_THAT(named("RIFF1234WEBPVP8 "), HasSubstr("a WebP image"));
  EXPECT_THAT(named(std::string_view("II*\0....", 8)), HasSubstr("a TIFF image"));
  EXPECT_THAT(named(std::string_view("\0\0\0\x20"
                                     "ftypheic",
                                     12)),
              HasSubstr("a HEIC image"));
  EXPECT_THAT(named(std::string_view("\0\0\0\x20"
                                     "ftypavif",
                                     12)),
              HasSubstr("an AVIF image"));
  EXPECT_THAT(named("<?xml version=\"1.0\"?><svg width=\"1\">"), HasSubstr("an SVG drawing"));
  EXPECT_THAT(named("<html><body>"), HasSubstr("HTML"));
  EXPECT_THAT(named("version https://git-lfs.github.com/spec/v1"), HasSubstr("Git LFS"));
  EXPECT_THAT(named(""), HasSubstr("nothing"));
  EXPECT_THAT(named("hello"), HasSubstr("expected a JPEG, PNG, BMP or PPM"));
}

TEST(Image, KnowsExtensions) {
  const auto readable = readable_extensions(), others = other_image_extensions();
  EXPECT_THAT(readable, testing::IsSupersetOf(
                            {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".ppm", ".pgm", ".pnm"}));
  EXPECT_THAT(others, testing::IsSupersetOf({".webp", ".tif", ".tiff", ".gif", ".heic", ".avif"}));
  for (const std::string_view one : readable)
    EXPECT_EQ(std::count(others.begin(), others.end(), one), 0) << one;
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
  EXPECT_THAT(load_error(folder.file("big.png")), HasSubstr("has 805306369 bytes"));
}

}  // namespace
}  // namespace plume::data::image_test
