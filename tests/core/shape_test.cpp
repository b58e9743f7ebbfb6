#include "engine/core/shape.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "engine/core/error.h"

namespace plume::shape_test {
namespace {

using testing::HasSubstr;

std::string refusal(const std::vector<int64_t>& dims) {
  try {
    const Shape shape(dims.data(), int(dims.size()));
    return "";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    return error.what();
  }
}

TEST(Shape, IndexesFromBothEnds) {
  const Shape shape{3, 7, 5, 64};
  EXPECT_EQ(shape.rank(), 4);
  EXPECT_EQ(shape[0], 3);
  EXPECT_EQ(shape[3], 64);
  EXPECT_EQ(shape[-1], 64);
  EXPECT_EQ(shape[-4], 3);
  EXPECT_EQ(std::vector<int64_t>(shape.begin(), shape.end()), (std::vector<int64_t>{3, 7, 5, 64}));
}

TEST(Shape, CountsElements) {
  EXPECT_EQ(Shape{}.elements(), 1);  // a scalar
  EXPECT_EQ(Shape{}.rank(), 0);
  EXPECT_EQ((Shape{3, 7, 5, 64}).elements(), 6720);
  EXPECT_EQ((Shape{3, 0, 5}).elements(), 0);
  EXPECT_EQ((Shape{int64_t{1} << 31, int64_t{1} << 31}).elements(), int64_t{1} << 62);
}

TEST(Shape, EqualMeansSameRankAndExtents) {
  EXPECT_EQ((Shape{2, 3}), (Shape{2, 3}));
  EXPECT_NE((Shape{2, 3}), (Shape{3, 2}));
  EXPECT_NE((Shape{2, 3}), (Shape{2, 3, 1}));
  EXPECT_NE(Shape{}, Shape{1});
  EXPECT_NE((Shape{0, 2}), (Shape{2, 0}));  // as empty as each other, and still different
}

TEST(Shape, Prints) {
  EXPECT_EQ(to_string(Shape{3, 7, 7, 64}), "[3, 7, 7, 64]");
  EXPECT_EQ(to_string(Shape{5}), "[5]");
  EXPECT_EQ(to_string(Shape{}), "[]");
}

TEST(Shape, RefusesWhatCannotBe) {
  EXPECT_EQ(refusal({1, 1, 1, 1, 1, 1, 1, 2}), "");
  EXPECT_THAT(refusal({1, 1, 1, 1, 1, 1, 1, 1, 2}), HasSubstr("rank 9"));
  EXPECT_THAT(refusal({4, -3}), HasSubstr("extent -3 of dimension 1 is negative"));
  EXPECT_THAT(refusal({int64_t{1} << 31, int64_t{1} << 31, 2}), HasSubstr("2^62"));
  EXPECT_THAT(refusal({INT64_MAX, INT64_MAX}), HasSubstr("2^62"));
}

TEST(Shape, AZeroExtentDoesNotHideAnOverflow) {
  EXPECT_THAT(refusal({0, int64_t{1} << 40, int64_t{1} << 40}), HasSubstr("2^62"));
  EXPECT_THAT(refusal({int64_t{1} << 40, int64_t{1} << 40, 0}), HasSubstr("2^62"));
}

TEST(Shape, With) {
  EXPECT_EQ(Shape({2, 3, 4}).with(1, 7), Shape({2, 7, 4}));
  EXPECT_EQ(Shape({2, 3, 4}).with(-1, 0), Shape({2, 3, 0}));
  EXPECT_THROW(Shape({2, 3}).with(0, -1), Error);
}

}  // namespace
}  // namespace plume::shape_test
