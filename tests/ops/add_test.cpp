#include "engine/ops/add.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/ops/reference/elementwise.h"
#include "tests/support/check_op.h"

namespace plume::test {
namespace {

TEST(AddTest, Forward) {
  for (const Shape& shape : odd_images())
    check_op({.slot = add_forward,
              .inputs = {{"a", shape}, {"b", shape}},
              .outputs = {{"y", shape}},
              .run = [](Context& c, Tensors& t) { add_forward(c, t["a"], t["b"], t["y"]); },
              .reference = [](Arrays& a) { reference::add(a["a"], a["b"], a["y"]); },
              .op = [](Variables& v) { return add(v["a"], v["b"]); }});
}

TEST(AddTest, OutputMayBeTheFirstInput) {
  check_op({.slot = add_forward,
            .label = "in place",
            .inputs = {{"b", {3, 7, 7, 17}}},
            .updated = {{"a", {3, 7, 7, 17}}},
            .run = [](Context& c, Tensors& t) { add_forward(c, t["a"], t["b"], t["a"]); },
            .reference = [](Arrays& a) { reference::add(Array(a["a"]), a["b"], a["a"]); }});
}

TEST(AddTest, OutputMayBeTheSecondInput) {
  check_op({.slot = add_forward,
            .label = "in place",
            .inputs = {{"a", {3, 7, 7, 17}}},
            .updated = {{"b", {3, 7, 7, 17}}},
            .run = [](Context& c, Tensors& t) { add_forward(c, t["a"], t["b"], t["b"]); },
            .reference = [](Arrays& a) { reference::add(a["a"], Array(a["b"]), a["b"]); }});
}

TEST(AddTest, ErrorNamesBothOperands) {
  const Tensor a = Tensor::zeros({2, 3}, DType::f32, Device::cpu);
  const Tensor b = Tensor::zeros({2, 4}, DType::f16, Device::cpu);
  try {
    add(a, b);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(),
                testing::AllOf(testing::HasSubstr("f32 [2, 3]"), testing::HasSubstr("f16 [2, 4]")));
  }
}

}  // namespace
}  // namespace plume::test
