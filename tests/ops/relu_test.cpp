#include "engine/ops/relu.h"

#include <gtest/gtest.h>

#include "tests/ops/reference/elementwise.h"
#include "tests/support/check_op.h"

namespace plume::test {
namespace {

TEST(ReluTest, Forward) {
  for (const Shape& shape : odd_images())
    check_op({.slot = relu_forward,
              .inputs = {{"x", shape}},
              .outputs = {{"y", shape}},
              .run = [](Context& c, Tensors& t) { relu_forward(c, t["x"], t["y"]); },
              .reference = [](Arrays& a) { reference::relu(a["x"], a["y"]); },
              .op = [](Variables& v) { return relu(v["x"]); }});
}

TEST(ReluTest, Backward) {
  for (const Shape& shape : odd_images())
    check_op({.slot = relu_backward,
              .inputs = {{"y", shape}, {"dy", shape}},
              .outputs = {{"dx", shape}},
              .run = [](Context& c, Tensors& t) { relu_backward(c, t["y"], t["dy"], t["dx"]); },
              .reference = [](Arrays& a) { reference::relu_backward(a["y"], a["dy"], a["dx"]); }});
}

}  // namespace
}  // namespace plume::test
