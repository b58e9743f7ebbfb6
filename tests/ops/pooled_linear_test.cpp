#include "engine/ops/pooled_linear.h"

#include <gtest/gtest.h>

#include "tests/ops/reference/convolution.h"
#include "tests/ops/reference/pooling.h"
#include "tests/support/check_op.h"

namespace plume::test {
namespace {

struct PooledCase {
  Shape x;
  int64_t outputs;
};

// Packs that divide the channels and not, more and fewer of them than a warp has lanes, pixels for all groups
// of threads and not, several blocks of outputs; and what is left to the two operations: many images.
const std::vector<PooledCase> kPooledCases = {
    {{1, 1, 1, 1}, 1},     {{1, 7, 7, 8}, 10},    {{2, 5, 3, 40}, 17},
    {{1, 7, 7, 576}, 50},  {{3, 2, 2, 1280}, 16}, {{4, 7, 7, 512}, 33},
    {{1, 3, 3, 1288}, 20}, {{5, 4, 4, 64}, 10},   {{2, 7, 7, 17}, 3}};

double rounding(DType dtype) { return dtype == DType::bf16 ? 0x1p16 : dtype == DType::f16 ? 0x1p13 : 0; }

TEST(PooledLinearTest, Forward) {
  for (const PooledCase& c : kPooledCases)
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16})
      check_op(
          {.slot = pooled_linear_forward,
           .inputs = {{"x", c.x},
                      {"w", {c.outputs, c.x[3]}},
                      {"shift", {c.outputs}, short_values(), DType::f32}},
           .outputs = {{"y", {c.x[0], c.outputs}}},
           .run =
               [](Context& context, Tensors& t) {
                 const Epilogue epilogue{.shift = t["shift"], .activation = Activation::hardswish};
                 pooled_linear_forward(context, t["x"], t["w"], epilogue, t["y"]);
               },
           .reference =
               [c, dtype](Arrays& a) {
                 const Array none;
                 Array pooled(Shape{c.x[0], c.x[3]});
                 reference::global_avg_pool(a["x"], pooled);
                 for (Real& v : pooled.values) v.error += rounding(dtype) * std::fabs(v.value);
                 reference::linear(pooled, a["w"], {none, a["shift"], none, Activation::hardswish}, a["y"]);
               },
           .dtypes = {dtype}});
}

TEST(PooledLinearTest, RefusesWhatDoesNotFit) {
  const auto zeros = [](const Shape& shape) { return Tensor::zeros(shape, DType::f32, Device::cpu); };
  EXPECT_EQ(pooled_linear(zeros({2, 3, 3, 4}), zeros({5, 4}), {}).shape(), (Shape{2, 5}));
  EXPECT_THROW(pooled_linear(zeros({2, 3, 3, 4}), zeros({5, 3}), {}), Error);
  EXPECT_THROW(pooled_linear(zeros({2, 4}), zeros({5, 4}), {}), Error);
}

}  // namespace
}  // namespace plume::test
