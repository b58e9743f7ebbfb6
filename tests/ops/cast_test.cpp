#include "engine/ops/cast.h"

#include <gtest/gtest.h>

#include "tests/ops/reference/elementwise.h"
#include "tests/support/check_op.h"

namespace plume::test {
namespace {

// From the dtype under test to each of the three.
TEST(CastTest, Forward) {
  for (const DType to : {DType::f32, DType::bf16, DType::f16})
    for (const Shape& shape : odd_images())
      check_op({.slot = cast_forward,
                .label = message("to {}", to),
                .inputs = {{"x", shape}},
                .outputs = {{.name = "y", .shape = shape, .dtype = to}},
                .run = [](Context& c, Tensors& t) { cast_forward(c, t["x"], t["y"]); },
                .reference = [](Arrays& a) { reference::copy(a["x"], a["y"]); },
                .op = [to](Variables& v) { return cast(v["x"], to); }});
}

TEST(CastTest, SameTypeIsTheSameVariable) {
  const Variable x(Tensor::zeros({3}, DType::f32, Device::cpu));
  EXPECT_TRUE(cast(x, DType::f32).value().same_storage(x.value()));
}

TEST(CastTest, RefusesIntegers) {
  EXPECT_THROW(cast(Tensor::zeros({3}, DType::i32, Device::cpu), DType::f32), Error);
}

std::vector<float> short_values_of(const Variable& x) {
  return cast(value_in(x, DType::bf16), DType::f32).value().to_vector<float>();
}

// What is kept beside a leaf is never older than its value, however that was written.
TEST(CastTest, KeptCastsFollowTheValue) {
  using Values = std::vector<float>;
  for (const Device device : devices_under_test()) {
    Variable w(Tensor::from(Values{1, 2}, {2}, device), true);
    EXPECT_EQ(short_values_of(w), (Values{1, 2}));
    EXPECT_EQ(value_in(w, DType::bf16).raw(), value_in(w, DType::bf16).raw());
    const void* const place = value_in(w, DType::bf16).raw();

    w.value().copy_from(Tensor::from(Values{3, 4}, {2}));
    EXPECT_EQ(right_cast(w), nullptr);
    EXPECT_EQ(short_values_of(w), (Values{3, 4}));
    w.value().fill_zero();
    EXPECT_EQ(short_values_of(w), (Values{0, 0}));
    Tensor handle = w.value();  // as kernels hold it
    cast_forward(context(device), cast(Tensor::from(Values{5, 6}, {2}, device), DType::f16).value(), handle);
    EXPECT_EQ(short_values_of(w), (Values{5, 6}));

    Tensor other = Tensor::from(Values{7, 8}, {2}, device);
    std::swap(w.value(), other);  // averaged weights come and go like this
    EXPECT_EQ(short_values_of(w), (Values{7, 8}));
    std::swap(w.value(), other);
    refresh_kept_casts(w);
    ASSERT_NE(right_cast(w), nullptr);
    EXPECT_EQ(short_values_of(w), (Values{5, 6}));
    EXPECT_EQ(value_in(w, DType::bf16).raw(), place);  // a recorded step reads it there
  }
}

TEST(CastTest, WhatIsNoLeafIsCastEachTime) {
  const Variable w(Tensor::from(std::vector<float>{1}, {1}), true);
  const Variable made = cast(cast(w, DType::f16), DType::f32);
  EXPECT_NE(value_in(made, DType::bf16).raw(), value_in(made, DType::bf16).raw());
}

}  // namespace
}  // namespace plume::test
