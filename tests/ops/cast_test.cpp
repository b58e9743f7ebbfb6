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

}  // namespace
}  // namespace plume::test
