#include "engine/ops/stochastic_depth.h"

#include <gtest/gtest.h>

#include "engine/autograd/tape.h"
#include "tests/support/check_op.h"

namespace plume::test {
namespace {

TEST(StochasticDepthTest, Forward) {
  const std::vector<int64_t> state{11, 4};
  for (const bool residual : {false, true})
    for (Shape shape : odd_images()) {
      shape = shape.with(0, 9);  // some images are dropped, some kept
      const DropoutParams params{0.4f, 2};
      std::vector<Operand> inputs{{"x", shape}};
      if (residual) inputs.push_back({"residual", shape});
      check_op(
          {.slot = stochastic_depth_forward,
           .label = residual ? "residual" : "gradient",
           .inputs = inputs,
           .outputs = {{"y", shape}},
           .run =
               [=](Context& c, Tensors& t) {
                 const Tensor on_device = Tensor::from(state, {2}, t["x"].device());
                 stochastic_depth_forward(c, t["x"], t["residual"], on_device, params, t["y"]);
               },
           .reference =
               [=](Arrays& a) {
                 const int64_t image = a["x"].size() / a["x"].dim(0);
                 for (int64_t i = 0; i < a["x"].size(); ++i) {
                   const float u =
                       dropout_numbers(state.data(), params.call, uint64_t(i / image / 4)).v[i / image % 4];
                   Real v = u < params.p ? Real(0) : a["x"][i] / (1.0 - double(params.p));
                   if (residual) v = v + a["residual"][i];
                   a["y"][i] = v;
                 }
               }});
    }
}

TEST(StochasticDepthTest, WholeImagesAreDroppedAsOftenAsAsked) {
  constexpr int64_t kImages = 70'000, kSize = 3;  // more images than a grid has rows
  for (const Device device : devices_under_test()) {
    const Variable x(Tensor::from(std::vector<float>(kImages * kSize, 1.0f), {kImages, kSize}, device), true);
    const Variable shortcut(Tensor::zeros({kImages, kSize}, DType::f32, device), true);
    const Variable y = stochastic_depth_add(x, shortcut, 0.25f, true);
    const std::vector<float> values = y.value().to_vector<float>();
    double kept = 0;
    for (size_t n = 0; n < size_t(kImages); ++n) {
      for (size_t i = 1; i < size_t(kSize); ++i) EXPECT_EQ(values[n * kSize + i], values[n * kSize]);
      EXPECT_TRUE(values[n * kSize] == 0 || values[n * kSize] == 1 / 0.75f);
      kept += values[n * kSize] != 0;
    }
    EXPECT_NEAR(kept / kImages, 0.75, 0.015);
    backward(y, Tensor::from(std::vector<float>(kImages * kSize, 1.0f), {kImages, kSize}, device));
    EXPECT_EQ(x.grad().to_vector<float>(), values);
    EXPECT_EQ(shortcut.grad().to_vector<float>(), std::vector<float>(kImages * kSize, 1.0f));
  }
}

TEST(StochasticDepthTest, IsASumInEvaluation) {
  const Variable x(Tensor::from(std::vector<float>{1, 2}, {2, 1})),
      r(Tensor::from(std::vector<float>{10, 20}, {2, 1}));
  EXPECT_EQ(stochastic_depth_add(x, r, 0.9f, false).value().to_vector<float>(), (std::vector<float>{11, 22}));
  const NoDropout off;
  EXPECT_EQ(stochastic_depth_add(x, r, 0.9f, true).value().to_vector<float>(), (std::vector<float>{11, 22}));
  EXPECT_THROW(stochastic_depth_add(x, Variable(Tensor::zeros({2, 2}, DType::f32, Device::cpu)), 0.5f, true),
               Error);
}

}  // namespace
}  // namespace plume::test
