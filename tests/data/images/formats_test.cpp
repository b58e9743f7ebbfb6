// Every decoder against Pillow, byte for byte: fixtures/jpeg_pillow.safetensors by fixtures/make_jpeg.py and
// fixtures/image_files_pillow.safetensors by fixtures/make_image_files.py.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "data/images/image.h"
#include "data/images/jpeg.h"
#include "data/images/png_reader.h"
#include "engine/core/error.h"
#include "engine/serialization/safetensors.h"
#include "tests/support/test_support.h"

namespace plume::data::formats_test {
namespace {

struct Decoded {
  int64_t height = 0, width = 0;
  std::vector<uint8_t> pixels;
  std::string error;

  bool operator==(const Decoded&) const = default;
};
std::ostream& operator<<(std::ostream& out, const Decoded& d) {
  out << d.width << "x" << d.height << " " << d.error;
  for (size_t i = 0; i < std::min<size_t>(d.pixels.size(), 48); ++i) out << " " << int(d.pixels[i]);
  return out;
}

Decoded decoded(const std::vector<uint8_t>& bytes, const std::string& name, const DecodeOptions& options) {
  try {
    const Image image = decode_image(bytes, name, options);
    return {image.height, image.width, image.pixels, ""};
  } catch (const Error& error) {
    return {0, 0, {}, error.what()};
  }
}

void check_cases(const std::string& fixture, int expected_cases) {
  const SafetensorsFile file(test::fixture(fixture));
  int cases = 0;
  for (const TensorInfo& info : file.tensors()) {
    if (!info.name.ends_with(".file")) continue;
    const std::string name = info.name.substr(0, info.name.size() - 5);
    const TensorInfo* pixels = file.find(name + ".pixels");
    ASSERT_NE(pixels, nullptr) << name;
    const Tensor want = file.read(*pixels);
    const Decoded pillow{want.dim(0), want.dim(1), want.to_vector<uint8_t>(), ""};
    const auto bytes = file.read(info).to_vector<uint8_t>();
    EXPECT_EQ(decoded(bytes, name, {}), pillow) << name;
    EXPECT_EQ(decoded(bytes, name, {.own_decoders = true}), pillow) << name << " by our own decoders";
    ++cases;
  }
  EXPECT_EQ(cases, expected_cases);
}

TEST(Formats, JpegsGivePillowsBytes) { check_cases("jpeg_pillow.safetensors", 7 * 3 + 4); }

TEST(Formats, AllGivePillowsBytes) { check_cases("image_files_pillow.safetensors", 106); }

// By libjpeg-turbo Pillow's draft(None, (side, side)); by our own decoder the whole image, as without that.
TEST(Formats, JpegsAtAPartOfTheirSizeGivePillowsBytes) {
  const SafetensorsFile file(test::fixture("image_files_pillow.safetensors"));
  const auto pillow = [&](const TensorInfo& info) {
    const Tensor want = file.read(info);
    return Decoded{want.dim(0), want.dim(1), want.to_vector<uint8_t>(), ""};
  };
  int cases = 0, smaller = 0;
  for (const TensorInfo& info : file.tensors()) {
    const size_t dot = info.name.find(".draft_");
    if (dot == std::string::npos) continue;
    const std::string name = info.name.substr(0, dot);
    const auto bytes = file.read(*file.find(name + ".file")).to_vector<uint8_t>();
    const Decoded whole = pillow(*file.find(name + ".pixels")), part = pillow(info);
    const int64_t side = std::stoll(info.name.substr(dot + 7));
    EXPECT_EQ(decoded(bytes, info.name, {.least_side = side}), libjpeg_version() ? part : whole) << info.name;
    EXPECT_EQ(decoded(bytes, info.name, {.least_side = side, .own_decoders = true}), whole) << info.name;
    smaller += part.width < whole.width;
    ++cases;
  }
  EXPECT_EQ(cases, 5 * 6);
  EXPECT_GT(smaller, 10);
}

// The two decoders of a format are different code: the tests above would not notice one that stands in for
// the other.
TEST(Formats, OurOwnDecodersAreOurOwn) {
  const SafetensorsFile file(test::fixture("jpeg_pillow.safetensors"));
  auto bytes = file.read(*file.find("grey.file")).to_vector<uint8_t>();
  bytes.resize(bytes.size() - 10);
  const std::string own = decoded(bytes, "x", {.own_decoders = true}).error,
                    best = decoded(bytes, "x", {}).error;
  EXPECT_THAT(own, testing::HasSubstr("before its end marker"));
  EXPECT_THAT(best, testing::HasSubstr(libjpeg_version() ? "before its image is complete" : "end marker"));
  EXPECT_THAT(image_decoders(), testing::HasSubstr(libjpeg_version() ? "libjpeg-turbo " : "own JPEG"));
  EXPECT_THAT(image_decoders(), testing::HasSubstr(spng_version() ? "libspng " : "stb_image"));
}

}  // namespace
}  // namespace plume::data::formats_test
