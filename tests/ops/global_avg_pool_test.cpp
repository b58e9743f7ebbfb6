#include "engine/ops/global_avg_pool.h"

#include <gtest/gtest.h>

#include "tests/ops/reference/pooling.h"
#include "tests/support/check_op.h"

namespace plume::test {
namespace {

TEST(GlobalAvgPoolTest, Forward) {
  for (const Shape& x : odd_images())
    check_op({.slot = global_avg_pool_forward,
              .inputs = {{"x", x}},
              .outputs = {{"y", {x[0], x[3]}}},
              .run = [](Context& c, Tensors& t) { global_avg_pool_forward(c, t["x"], t["y"]); },
              .reference = [](Arrays& a) { reference::global_avg_pool(a["x"], a["y"]); },
              .op = [](Variables& v) { return global_avg_pool(v["x"]); }});
}

TEST(GlobalAvgPoolTest, MeansOf16BitImagesInF32) {
  for (const Shape& x : odd_images())
    check_op({.slot = global_avg_pool_forward,
              .inputs = {{"x", x}},
              .outputs = {{"y", {x[0], x[3]}, Fill{}, DType::f32}},
              .run = [](Context& c, Tensors& t) { global_avg_pool_forward(c, t["x"], t["y"]); },
              .reference = [](Arrays& a) { reference::global_avg_pool(a["x"], a["y"]); },
              .dtypes = {DType::bf16, DType::f16}});
}

TEST(GlobalAvgPoolTest, Backward) {
  for (const Shape& x : odd_images())
    check_op({.slot = global_avg_pool_backward,
              .inputs = {{"dy", {x[0], x[3]}}},
              .outputs = {{"dx", x}},
              .run = [](Context& c, Tensors& t) { global_avg_pool_backward(c, t["dy"], t["dx"]); },
              .reference = [](Arrays& a) { reference::global_avg_pool_backward(a["dy"], a["dx"]); }});
}

TEST(GlobalAvgPoolTest, RefusesMatrices) {
  EXPECT_THROW(global_avg_pool(Tensor::zeros({2, 3}, DType::f32, Device::cpu)), Error);
}

}  // namespace
}  // namespace plume::test
