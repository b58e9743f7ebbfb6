// BMP and PPM files that are not right; those that are: formats_test.cpp.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "data/images/image.h"
#include "tests/data/images/image_files.h"

namespace plume::data::bitmaps_test {
namespace {

using testing::HasSubstr;

Image decoded(const std::string& bytes) {
  return decode_image({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, "x");
}
std::string decode_error(const std::string& bytes) {
  return refusal([&] { decoded(bytes); });
}

void set(std::string& bytes, size_t at, size_t count, uint32_t value) {
  for (size_t i = 0; i < count; ++i) bytes[at + i] = char(value >> 8 * i);
}

constexpr size_t kOffset = 10, kHeaderSize = 14, kWidth = 18, kHeight = 22, kBits = 28, kCompression = 30,
                 kColours = 46, kData = 54;

// 3x2 pixels of 24 bits: two rows of 9 bytes and 3 to fill them up.
std::string bmp() {
  std::string bytes(kData + 24, '\7');
  std::fill_n(bytes.begin(), kData, '\0');
  bytes[0] = 'B';
  bytes[1] = 'M';
  set(bytes, kOffset, 4, kData);
  set(bytes, kHeaderSize, 4, 40);
  set(bytes, kWidth, 4, 3);
  set(bytes, kHeight, 4, 2);
  set(bytes, kBits, 2, 24);
  return bytes;
}
std::string with(std::string bytes, size_t at, size_t count, uint32_t value) {
  set(bytes, at, count, value);
  return bytes;
}

TEST(Bmp, RefusesWhatIsCutShort) {
  const std::string whole = bmp();
  EXPECT_EQ(decoded(whole).pixels, std::vector<uint8_t>(18, 7));
  EXPECT_EQ(decoded(whole.substr(0, whole.size() - 3)).height, 2);
  for (size_t size = 2; size < whole.size() - 3; ++size)
    EXPECT_THAT(decode_error(whole.substr(0, size)), HasSubstr("x: BMP ")) << size;
  EXPECT_THAT(decode_error(whole.substr(0, whole.size() - 4)), HasSubstr("20 bytes of them, expected 21"));
}

TEST(Bmp, NamesWhatIsWrong) {
  EXPECT_THAT(decode_error(with(bmp(), kHeaderSize, 4, 41)), HasSubstr("header of 41 bytes"));
  EXPECT_THAT(decode_error(with(bmp(), kBits, 2, 2)), HasSubstr("2 bits"));
  EXPECT_THAT(decode_error(with(bmp(), kCompression, 4, 1)), HasSubstr("24 bits with compression 1"));
  EXPECT_THAT(decode_error(with(bmp(), kCompression, 4, 4)), HasSubstr("compression 4"));
  EXPECT_THAT(decode_error(with(bmp(), kOffset, 4, 1000)), HasSubstr("its pixels begin at 1000"));
  EXPECT_THAT(decode_error(with(with(bmp(), kBits, 2, 8), kColours, 4, 257)), HasSubstr("257 colours"));
  // Masks that overlap no byte, and none at all.
  EXPECT_THAT(decode_error(with(with(bmp(), kBits, 2, 32), kCompression, 4, 3)), HasSubstr("masks"));
  EXPECT_THAT(decode_error(with(with(bmp(), kBits, 2, 8), kCompression, 4, 3)), HasSubstr("masks"));
}

TEST(Bmp, RefusesSizesBeforeAllocating) {
  for (const uint32_t side : {0u, 0x7FFFFFFFu, 0x80000000u, 0xFFFFFFFFu})
    EXPECT_THAT(decode_error(with(bmp(), kWidth, 4, side)), HasSubstr("BMP of ")) << side;
  EXPECT_THAT(decode_error(with(with(bmp(), kWidth, 4, 13000), kHeight, 4, 13000)),
              HasSubstr("has 24 bytes"));
  std::string runs = with(with(bmp(), kBits, 2, 8), kCompression, 4, 1);
  runs = with(with(runs, kWidth, 4, 13000), kHeight, 4, 13000);
  EXPECT_THAT(decode_error(with(runs, kColours, 4, 1)), HasSubstr("in 20 bytes"));
}

TEST(Bmp, RunsStayInsideTheImage) {
  const auto coded = [](const std::string& code) {
    std::string bytes = with(with(bmp(), kBits, 2, 8), kCompression, 4, 1).substr(0, kData) + code;
    return with(with(bytes, kColours, 4, 1), kOffset, 4, kData);
  };
  using namespace std::string_literals;
  const std::string palette = "\0\0\0\0"s;
  // Too long a run, and a jump out of the image: what lies outside is left out, grey i stands for index i.
  EXPECT_THAT(decoded(coded(palette + "\xFF\1\0\0\xFF\2\0\1"s)).pixels,
              testing::ElementsAre(2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1));
  EXPECT_EQ(decoded(coded(palette + "\0\2\xFF\xFF\0\1"s)).pixels, std::vector<uint8_t>(18, 0));
  for (const std::string& code : {"\0\xFF"s, "\0\2"s, "\3\1"s, "\0\0"s, "\0\1"s, "\3\1\0\1"s})
    EXPECT_THAT(decode_error(coded(palette + code)), HasSubstr("before its image is complete"));
}

TEST(Ppm, RefusesWhatIsCutShort) {
  for (const std::string whole :
       {"P6\n2 1\n255\nabcdef", "P5\n2 1\n255\nab", "P3\n1 1\n9\n1 2 3", "P4\n9 1\nab"}) {
    EXPECT_EQ(decoded(whole).height, 1) << whole;
    for (size_t size = 3; size < whole.size(); ++size)
      EXPECT_THAT(decode_error(whole.substr(0, size)), HasSubstr("x: PPM ")) << whole.substr(0, size);
  }
}

TEST(Ppm, NamesWhatIsWrong) {
  EXPECT_THAT(decode_error("P6 2 1 65536 abcdef"), HasSubstr("values up to 65536"));
  EXPECT_THAT(decode_error("P6 2 1 0 abcdef"), HasSubstr("values up to 0"));
  EXPECT_THAT(decode_error("P6 -2 1 255 abcdef"), HasSubstr("no number at byte 3"));
  EXPECT_THAT(decode_error("P6 2x 1 255 abcdef"), HasSubstr("no number at byte 4"));
  EXPECT_THAT(decode_error("P6 99999999999 1 255 a"), HasSubstr("too long"));
  EXPECT_THAT(decode_error("P6 9999999999 9999999999 255 a"), HasSubstr("9999999999x9999999999 pixels"));
  EXPECT_THAT(decode_error("P6 13000 13000 255 a"), HasSubstr("expected 507000000"));
  EXPECT_THAT(decode_error("P2 2 1 9 3 10 "), HasSubstr("value 10, expected at most 9"));
  EXPECT_THAT(decode_error("P1 2 1 12"), HasSubstr("no number"));
}

}  // namespace
}  // namespace plume::data::bitmaps_test
