// decode_image() against Pillow, byte for byte: fixtures/jpeg_pillow.safetensors, by fixtures/make_jpeg.py.
#include <gtest/gtest.h>

#include "data/images/image.h"
#include "engine/serialization/safetensors.h"
#include "tests/support/test_support.h"

namespace plume::data {
namespace {

TEST(Jpeg, GivesPillowsBytes) {
  const SafetensorsFile file(test::fixture("jpeg_pillow.safetensors"));
  int cases = 0;
  for (const TensorInfo& info : file.tensors()) {
    if (!info.name.ends_with(".file")) continue;
    const std::string name = info.name.substr(0, info.name.size() - 5);
    const TensorInfo* pixels = file.find(name + ".pixels");
    ASSERT_NE(pixels, nullptr) << name;
    const Tensor want = file.read(*pixels);
    const Image image = decode_image(file.read(info).to_vector<uint8_t>(), name);
    EXPECT_EQ(image.height, want.dim(0)) << name;
    EXPECT_EQ(image.width, want.dim(1)) << name;
    EXPECT_EQ(image.pixels, want.to_vector<uint8_t>()) << name;
    ++cases;
  }
  EXPECT_EQ(cases, 7 * 3 + 4);
}

}  // namespace
}  // namespace plume::data
