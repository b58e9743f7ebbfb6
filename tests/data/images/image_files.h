// Small data sets of image files, as the tests of readers need them.
#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <string>

#include "data/images/image.h"
#include "data/images/png.h"
#include "engine/core/error.h"
#include "engine/core/random.h"
#include "tests/support/test_support.h"

namespace plume::data {

inline Image noise(int height, int width, uint64_t seed) {
  RandomSequence random(seed);
  Image image{height, width, {}};
  for (int i = 0; i < height * width * 3; ++i) image.pixels.push_back(uint8_t(random.bits()));
  return image;
}

// Makes the folders on the way.
inline void write_below(const std::filesystem::path& path, const std::string& bytes) {
  std::filesystem::create_directories(path.parent_path());
  test::write_file(path.string(), bytes);
}
inline void write_image(const std::filesystem::path& path, int height, int width, uint64_t seed) {
  write_below(path, encode_png(noise(height, width, seed)));
}

// The message of the one-line error of this kind that the action raises.
inline std::string refusal(const std::function<void()>& action, ErrorKind kind = ErrorKind::bad_input) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    EXPECT_THAT(error.what(), testing::Not(testing::HasSubstr("\n")));
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

}  // namespace plume::data
