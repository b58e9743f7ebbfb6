#include "engine/ops/activation.h"

#include <gtest/gtest.h>

#include "tests/ops/reference/elementwise.h"
#include "tests/support/check_op.h"

namespace plume::test {
namespace {

constexpr Activation kKinds[] = {Activation::relu, Activation::sigmoid, Activation::hardsigmoid,
                                 Activation::silu, Activation::hardswish};

TEST(ActivationTest, Forward) {
  for (const Activation kind : kKinds)
    for (const Shape& shape : odd_images())
      check_op({.slot = activation_forward,
                .label = name(kind),
                .inputs = {{"x", shape}},
                .outputs = {{"y", shape}},
                .run = [kind](Context& c, Tensors& t) { activation_forward(c, t["x"], kind, t["y"]); },
                .reference = [kind](Arrays& a) { reference::activation(a["x"], kind, a["y"]); },
                .op = [kind](Variables& v) { return activation(v["x"], kind); }});
}

TEST(ActivationTest, Backward) {
  for (const Activation kind : kKinds)
    for (const Shape& shape : odd_images())
      check_op(
          {.slot = activation_backward,
           .label = name(kind),
           .inputs = {{"x", shape}, {"dy", shape}},
           .outputs = {{"dx", shape}},
           .run = [kind](Context& c, Tensors& t) { activation_backward(c, t["x"], t["dy"], kind, t["dx"]); },
           .reference =
               [kind](Arrays& a) { reference::activation_backward(a["x"], a["dy"], kind, a["dx"]); }});
}

TEST(ActivationTest, IdentityIsTheSameTensor) {
  const Variable x(Tensor::zeros({2, 3}, DType::f32, Device::cpu));
  EXPECT_TRUE(activation(x, Activation::identity).value().same_storage(x.value()));
}

// Against the mathematical library over the whole range of float.
TEST(ActivationTest, Exponential) {
  for (double x = -87; x <= 88; x += 0.00137) {
    const double want = std::exp(double(float(x)));
    EXPECT_NEAR(double(exponential(float(x))) / want, 1, 2.5e-7) << x;
  }
  EXPECT_EQ(exponential(0.0f), 1.0f);
  EXPECT_TRUE(std::isnan(exponential(float(NAN))));
  EXPECT_LT(exponential(-1e30f), 1e-37f);
}

}  // namespace
}  // namespace plume::test
