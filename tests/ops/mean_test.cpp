#include <gtest/gtest.h>

#include "engine/ops/softmax_cross_entropy.h"
#include "tests/ops/reference/elementwise.h"
#include "tests/support/check_op.h"

namespace plume::test {
namespace {

TEST(MeanTest, Forward) {
  for (const int64_t n : {1, 3, 31, 64, 129, 1025})
    check_op({.slot = mean_forward,
              .inputs = {{"x", {n}}},
              .outputs = {{"out", {1}}},
              .run = [](Context& c, Tensors& t) { mean_forward(c, t["x"], t["out"]); },
              .reference = [](Arrays& a) { reference::mean(a["x"], a["out"]); },
              .dtypes = {DType::f32}});
}

}  // namespace
}  // namespace plume::test
