#include "data/dataset.h"

#include <gtest/gtest.h>

#include <numeric>

#include "engine/core/error.h"

namespace plume::data::dataset_test {
namespace {

DatasetInfo two_classes() {
  DatasetInfo info;
  info.name = "small";
  info.class_names = {"a", "b"};
  return info;
}

// Images of 1x2, 2x1 and 1x1 pixels, the last of which lies first; byte i is i.
DatasetContent three_images() {
  const auto pixels = std::make_shared<std::vector<uint8_t>>(15);
  std::iota(pixels->begin(), pixels->end(), uint8_t(0));
  DatasetContent content;
  content.labels = {1, 0, 1};
  content.places = {{3, 1, 2}, {9, 2, 1}, {0, 1, 1}};
  content.pixels = *pixels;
  content.owner = pixels;
  content.pixel_hash = hash_bytes(*pixels);
  content.skipped = {{"c.png", "is empty"}};
  return content;
}

TEST(Dataset, HoldsImagesOfDifferentSizes) {
  const Dataset set(two_classes(), three_images());
  ASSERT_EQ(set.size(), 3);
  EXPECT_FALSE(set.uniform());
  EXPECT_EQ(set.height(), 0);
  const Sample first = set.get(0), second = set.get(1), third = set.get(2);
  EXPECT_EQ(first.height, 1);
  EXPECT_EQ(first.width, 2);
  EXPECT_EQ(first.label, 1);
  EXPECT_EQ(first.pixels.size(), 6u);
  EXPECT_EQ(first.pixels[0], 3);
  EXPECT_EQ(second.height, 2);
  EXPECT_EQ(second.width, 1);
  EXPECT_EQ(second.pixels[0], 9);
  EXPECT_EQ(third.pixels.size(), 3u);
  EXPECT_EQ(third.pixels[2], 2);
  ASSERT_EQ(set.skipped().size(), 1u);
  EXPECT_EQ(set.skipped()[0].path, "c.png");
  EXPECT_THROW(set.get(3), Error);
}

TEST(Dataset, DescribesItself) {
  DatasetInfo info = two_classes();
  info.split = Split::val;
  EXPECT_EQ(to_line(Dataset(info, three_images()).description()),
            "val split, 3 images; left out: 1 unreadable");
  info.folder = "a\nb";
  info.left_out = {{".webp", 12}, {".txt", 1}};
  const DatasetDescription d = Dataset(info, three_images()).description();
  EXPECT_EQ(d.folder, info.folder);
  EXPECT_EQ(to_line(d), "val split, 3 images of a\\nb; left out: 12 .webp, 1 .txt, 1 unreadable");
}

TEST(Dataset, FindsOneSize) {
  DatasetContent content = three_images();
  content.places = {{0, 1, 2}, {6, 1, 2}, {3, 1, 2}};
  const Dataset set(two_classes(), std::move(content));
  EXPECT_TRUE(set.uniform());
  EXPECT_EQ(set.height(), 1);
  EXPECT_EQ(set.width(), 2);
  const Dataset plain({.height = 1, .width = 1, .class_names = {"a", "b"}}, {1, 2, 3}, {1});
  EXPECT_TRUE(plain.uniform());
  EXPECT_EQ(plain.get(0).height, 1);
  EXPECT_EQ(plain.get(0).pixels[2], 3);
}

TEST(Dataset, FingerprintTellsEverythingApart) {
  const auto fingerprint = [](auto change) {
    DatasetContent content = three_images();
    change(content);
    return Dataset(two_classes(), std::move(content)).fingerprint();
  };
  const std::string before = fingerprint([](DatasetContent&) {});
  EXPECT_EQ(before.size(), 16u);
  EXPECT_EQ(fingerprint([](DatasetContent& c) { c.skipped.clear(); }), before);
  EXPECT_NE(fingerprint([](DatasetContent& c) { c.labels[0] = 0; }), before);
  EXPECT_NE(fingerprint([](DatasetContent& c) { c.places[0] = {3, 2, 1}; }), before);
  EXPECT_NE(fingerprint([](DatasetContent& c) { c.pixel_hash ^= 1; }), before);
}

TEST(Dataset, RefusesPlacesOutsideThePixels) {
  const auto refused = [](auto change) {
    DatasetContent content = three_images();
    change(content);
    EXPECT_THROW(Dataset(two_classes(), std::move(content)), Error);
  };
  refused([](DatasetContent& c) { c.labels.pop_back(); });
  refused([](DatasetContent& c) { c.labels[1] = 2; });
  refused([](DatasetContent& c) { c.places[1].offset = 10; });
  refused([](DatasetContent& c) { c.places[1].offset = -1; });
  refused([](DatasetContent& c) { c.places[1].offset = 16; });
  refused([](DatasetContent& c) { c.places[1].height = 0; });
  refused([](DatasetContent& c) { c.places[1] = {0, INT32_MAX, INT32_MAX}; });
}

}  // namespace
}  // namespace plume::data::dataset_test
