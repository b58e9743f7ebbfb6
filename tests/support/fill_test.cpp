#include "tests/support/fill.h"

#include <gtest/gtest.h>

namespace plume::test::fill_test {
namespace {

TEST(Fill, ShortValuesAreTheSameInEveryType) {
  const Shape shape{2000};
  RandomSequence random(7);
  const std::vector<double> values = short_values(outliers(0.01))(shape, random, false);
  int different = 0;
  for (const DType type : {DType::f32, DType::bf16, DType::f16})
    EXPECT_EQ(to_doubles(to_tensor(values, shape, type, Device::cpu)), values) << name(type);
  for (size_t i = 1; i < values.size(); ++i) different += values[i] != values[i - 1];
  EXPECT_GT(different, 1500);
}

}  // namespace
}  // namespace plume::test::fill_test
