#include "engine/core/view.h"

#include <gtest/gtest.h>

#include <climits>
#include <numeric>

namespace plume::view_test {
namespace {

Tensor counted(const Shape& shape) {
  std::vector<float> values(size_t(shape.elements()));
  std::iota(values.begin(), values.end(), 0.0f);
  return Tensor::from(values, shape);
}

TEST(View, FourIndicesWalkTheMemoryInOrder) {
  const Tensor t = counted({2, 3, 4, 5});
  const View4<const float> view = view4<float>(t);
  float expected = 0;
  for (int n = 0; n < view.n; ++n)
    for (int h = 0; h < view.h; ++h)
      for (int w = 0; w < view.w; ++w)
        for (int c = 0; c < view.c; ++c) ASSERT_EQ(view.at(n, h, w, c), expected++);
  EXPECT_EQ(expected, float(t.size()));
}

TEST(View, WritesReachTheTensor) {
  Tensor t = counted({1, 2, 2, 3});
  view4<float>(t).at(0, 1, 0, 2) = -1;
  EXPECT_EQ(t.to_vector<float>()[8], -1);
  rows_view<float>(t).at(3, 0) = -2;
  EXPECT_EQ(t.to_vector<float>()[9], -2);
}

TEST(View, RowsAreEverythingButTheLastDimension) {
  const Tensor t = counted({2, 3, 4, 5});
  const View2<const float> view = rows_view<float>(t);
  EXPECT_EQ(view.rows, 24);
  EXPECT_EQ(view.cols, 5);
  EXPECT_EQ(view.at(23, 4), 119);
  EXPECT_EQ(view.at(7, 1), 36);
}

TEST(View, InsideIsWithinTheImage) {
  const Tensor t = counted({1, 3, 4, 1});
  const View4<const float> view = view4<float>(t);
  EXPECT_TRUE(view.inside(0, 0));
  EXPECT_TRUE(view.inside(2, 3));
  EXPECT_FALSE(view.inside(-1, 0));
  EXPECT_FALSE(view.inside(0, -1));
  EXPECT_FALSE(view.inside(3, 0));
  EXPECT_FALSE(view.inside(0, 4));
  EXPECT_FALSE(view.inside(INT_MIN, INT_MAX));
}

// 3 x 2^30 elements: products of 32-bit extents would wrap around.
TEST(View, OffsetsAreSixtyFourBit) {
  const View4<const uint8_t> view{nullptr, 3, 1 << 10, 1 << 10, 1 << 10};
  EXPECT_EQ(view.offset(2, 1023, 1023, 1023), 3 * (int64_t{1} << 30) - 1);
  alignas(16) uint8_t byte = 0;
  const View2<uint8_t> rows{&byte, 1 << 20, 1 << 12};
  EXPECT_EQ(&rows.at((1 << 20) - 1, 0) - &byte, ((int64_t{1} << 20) - 1) << 12);
}

TEST(View, TheElementTypeIsChecked) {
  const Tensor t = counted({1, 1, 1, 1});
  EXPECT_THROW((void)view4<bf16>(t), Error);
  EXPECT_THROW((void)rows_view<int32_t>(t), Error);
}

}  // namespace
}  // namespace plume::view_test
