#include "data/held_out.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "data/sets/synthetic.h"
#include "engine/core/error.h"

namespace plume::data::held_out_test {
namespace {

using testing::HasSubstr;

// Images of one pixel, so many of each class, in turn as long as there are any.
Dataset labelled(std::vector<int> sizes) {
  DatasetInfo info;
  info.name = "labelled";
  info.height = info.width = 1;
  for (size_t k = 0; k < sizes.size(); ++k) info.class_names.push_back(std::to_string(k));
  std::vector<int32_t> labels;
  for (bool more = true; more;) {
    more = false;
    for (size_t k = 0; k < sizes.size(); ++k)
      if (sizes[k]-- > 0) labels.push_back(int32_t(k)), more = true;
  }
  std::vector<uint8_t> pixels;
  for (size_t i = 0; i < labels.size(); ++i) pixels.insert(pixels.end(), {uint8_t(i), 0, 0});
  return {info, std::move(pixels), std::move(labels)};
}

std::map<int, int> count_by_class(const Dataset& set, const std::vector<int64_t>& images) {
  std::map<int, int> counts;
  for (const int64_t i : images) ++counts[set.get(i).label];
  return counts;
}

std::string why_not_held_out(const Dataset& set, int64_t count) {
  try {
    held_out(set, 0, count, 1);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_input);
    return error.what();
  }
  return "";
}

TEST(HeldOut, EveryClassGivesItsShare) {
  const Dataset set = labelled({100, 50, 25, 7, 2, 1});
  const std::vector<int64_t> images = held_out(set, 0, 20, 1);
  ASSERT_EQ(images.size(), 20u);
  EXPECT_TRUE(std::is_sorted(images.begin(), images.end()));
  EXPECT_EQ(std::adjacent_find(images.begin(), images.end()), images.end());
  // Of 185: 10.8, 5.4, 2.7, 0.8, 0.2, 0.1. Small classes give one, the only image of a class stays; what
  // is left goes to the largest remainder.
  EXPECT_EQ(count_by_class(set, images), (std::map<int, int>{{0, 11}, {1, 5}, {2, 2}, {3, 1}, {4, 1}}));
  // As many as there can be, and as few.
  EXPECT_EQ(count_by_class(set, held_out(set, 0, 179, 1)),
            (std::map<int, int>{{0, 99}, {1, 49}, {2, 24}, {3, 6}, {4, 1}}));
  EXPECT_EQ(count_by_class(set, held_out(set, 0, 5, 1)),
            (std::map<int, int>{{0, 1}, {1, 1}, {2, 1}, {3, 1}, {4, 1}}));
}

TEST(HeldOut, IsAFunctionOfLabelsAndSeed) {
  const Dataset set = labelled({300, 300, 300});
  const std::vector<int64_t> images = held_out(set, 0, 90, 7);
  EXPECT_EQ(held_out(labelled({300, 300, 300}), 0, 90, 7), images);
  const std::vector<int64_t> others = held_out(set, 0, 90, 8);
  EXPECT_NE(others, images);
  EXPECT_EQ(count_by_class(set, others), count_by_class(set, images));
  // Drawn from all over the set, in every class otherwise.
  EXPECT_LT(images.front(), 90);
  EXPECT_GT(images.back(), 810);
  std::map<int, std::vector<int64_t>> places;
  for (const int64_t i : images) places[set.get(i).label].push_back(i / 3);
  EXPECT_NE(places[0], places[1]);
}

TEST(HeldOut, OfTheFirstImagesAlone) {
  const Dataset set = labelled({300, 300});
  const std::vector<int64_t> images = held_out(set, 40, 10, 7);
  EXPECT_LT(images.back(), 40);
  EXPECT_EQ(count_by_class(set, images), (std::map<int, int>{{0, 5}, {1, 5}}));
}

TEST(HeldOut, NamesTheBounds) {
  const Dataset set = labelled({4, 3, 1});
  for (const int64_t count : {0, 1, 6, 100})
    EXPECT_THAT(why_not_held_out(set, count), HasSubstr("of 8: each of 2 classes gives at least one and "
                                                        "keeps one, that is 2 to 5"))
        << count;
  EXPECT_EQ(held_out_bounds(set, 0).least, 2);
  EXPECT_EQ(held_out_bounds(set, 0).most, 5);
  EXPECT_EQ(held_out_bounds(labelled({1, 1}), 0).most, 0);
  EXPECT_THAT(why_not_held_out(labelled({1, 1}), 1), HasSubstr("0 to 0"));
}

TEST(Subset, SharesThePixelsOfItsImages) {
  const auto whole = make_synthetic(Split::train, {.count = 40});
  const std::vector<int64_t> images = {3, 17, 39};
  const auto part = whole->subset(images);
  ASSERT_EQ(part->size(), 3);
  EXPECT_EQ(part->class_names(), whole->class_names());
  EXPECT_EQ(part->height(), whole->height());
  EXPECT_EQ(part->split(), Split::train);
  for (int64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(part->get(i).label, whole->get(images[size_t(i)]).label);
    EXPECT_EQ(part->get(i).pixels.data(), whole->get(images[size_t(i)]).pixels.data());
  }
  EXPECT_EQ(part->subset(std::vector<int64_t>{1})->get(0).pixels.data(), whole->get(17).pixels.data());
  EXPECT_EQ(whole->subset(images)->fingerprint(), part->fingerprint());
  EXPECT_NE(whole->subset(std::vector<int64_t>{3, 7, 39})->fingerprint(), part->fingerprint());
  const auto others = make_synthetic(Split::train, {.count = 40, .seed = 2});
  EXPECT_NE(others->subset(images)->fingerprint(), part->fingerprint());
  EXPECT_THROW(whole->subset(std::vector<int64_t>{40}), Error);
}

}  // namespace
}  // namespace plume::data::held_out_test
