#include "engine/ops/dropout.h"

#include <gtest/gtest.h>

#include "engine/autograd/tape.h"
#include "tests/support/check_op.h"

namespace plume::test {
namespace {

constexpr uint64_t kSeed = 42;
constexpr int64_t kStep = 7;

Tensor state_on(Device device) {
  return Tensor::from(std::vector<int64_t>{int64_t(kSeed), kStep}, {2}, device);
}

TEST(DropoutTest, Forward) {
  const int64_t state[] = {int64_t(kSeed), kStep};
  for (const Shape& shape : odd_images())
    for (const float p : {0.2f, 0.5f, 0.9f}) {
      const DropoutParams params{p, 3};
      check_op({.slot = dropout_forward,
                .label = message("p = {}", p),
                .inputs = {{"x", shape}},
                .outputs = {{"y", shape}},
                .run =
                    [params](Context& c, Tensors& t) {
                      dropout_forward(c, t["x"], state_on(t["x"].device()), params, t["y"]);
                    },
                .reference =
                    [params, state](Arrays& a) {
                      for (int64_t i = 0; i < a["x"].size(); ++i) {
                        const float u = dropout_numbers(state, params.call, uint64_t(i / 4)).v[i % 4];
                        a["y"][i] = u < params.p ? Real(0) : a["x"][i] / (1.0 - double(params.p));
                      }
                    }});
    }
}

TEST(DropoutTest, DropsAsManyAsAsked) {
  constexpr int64_t kSize = 100'000;
  for (const Device device : devices_under_test())
    for (const float p : {0.1f, 0.5f, 0.8f}) {
      const Variable x(Tensor::from(std::vector<float>(kSize, 1.0f), {kSize}, device));
      double kept = 0;
      for (const float v : dropout(x, p, true).value().to_vector<float>()) {
        EXPECT_TRUE(v == 0 || v == 1 / (1 - p)) << v;
        kept += v != 0;
      }
      EXPECT_NEAR(kept / kSize, 1 - double(p), 0.01);
    }
}

TEST(DropoutTest, TheGradientHasTheSameMask) {
  for (const Device device : devices_under_test()) {
    const Variable x(Tensor::from(std::vector<float>(1001, 1.0f), {1001}, device), true);
    const Variable y = dropout(x, 0.3f, true);
    backward(y, Tensor::from(std::vector<float>(1001, 1.0f), {1001}, device));
    EXPECT_EQ(x.grad().to_vector<float>(), y.value().to_vector<float>());
  }
}

TEST(DropoutTest, DrawsAnewInEachCallAndAgainInTheSameStep) {
  for (const Device device : devices_under_test()) {
    const Variable x(Tensor::from(std::vector<float>(1000, 1.0f), {1000}, device));
    const auto draw = [&] { return dropout(x, 0.5f, true).value().to_vector<float>(); };
    layer_random().seed(5);
    layer_random().begin_step(10);
    const auto first = draw(), second = draw();
    layer_random().begin_step(11);
    const auto later = draw();
    EXPECT_NE(first, second);
    EXPECT_NE(first, later);
    layer_random().begin_step(10);
    EXPECT_EQ(draw(), first);
    EXPECT_EQ(draw(), second);
    layer_random().seed(6);
    layer_random().begin_step(10);
    EXPECT_NE(draw(), first);
  }
}

TEST(DropoutTest, DoesNothingInEvaluationOrWhenSwitchedOff) {
  const Variable x(Tensor::from(std::vector<float>(100, 1.0f), {100}));
  EXPECT_TRUE(dropout(x, 0.5f, false).value().same_storage(x.value()));
  EXPECT_TRUE(dropout(x, 0, true).value().same_storage(x.value()));
  {
    const NoDropout off;
    EXPECT_TRUE(dropout(x, 0.5f, true).value().same_storage(x.value()));
  }
  EXPECT_FALSE(dropout(x, 0.5f, true).value().same_storage(x.value()));
  EXPECT_THROW(dropout(x, 1, true), Error);
  EXPECT_THROW(dropout(x, -0.1f, false), Error);
}

}  // namespace
}  // namespace plume::test
