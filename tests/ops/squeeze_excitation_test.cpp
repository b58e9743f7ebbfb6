#include "engine/ops/squeeze_excitation.h"

#include <gtest/gtest.h>

#include "tests/ops/reference/squeeze_excitation.h"
#include "tests/support/check_op.h"

namespace plume::test {
namespace {

constexpr SqueezeExcitationParams kMobileNet{Activation::relu, Activation::hardsigmoid};
constexpr SqueezeExcitationParams kEfficientNet{Activation::silu, Activation::sigmoid};

Operand f32_operand(const char* name, const Shape& shape) {
  return {.name = name, .shape = shape, .dtype = DType::f32};
}

TEST(SqueezeExcitationTest, Forward) {
  for (const auto& params : {kMobileNet, kEfficientNet})
    for (const Shape& x : odd_images())
      for (const int64_t q : {1, 8, 24}) {
        const int64_t n = x[0], c = x[3];
        check_op({.slot = squeeze_excitation_forward,
                  .label = name(params.gate),
                  .inputs = {{"x", x},
                             f32_operand("w1", {q, c}),
                             f32_operand("b1", {q}),
                             f32_operand("w2", {c, q}),
                             f32_operand("b2", {c})},
                  .outputs = {{"y", x},
                              f32_operand("pooled", {n, c}),
                              f32_operand("z1", {n, q}),
                              f32_operand("z2", {n, c})},
                  .run =
                      [params](Context& context, Tensors& t) {
                        squeeze_excitation_forward(context, t["x"], t["w1"], t["b1"], t["w2"], t["b2"],
                                                   params, t["y"], t["pooled"], t["z1"], t["z2"]);
                      },
                  .reference = [params](Arrays& a) { reference::squeeze_excitation(params, a); }});
      }
}

TEST(SqueezeExcitationTest, Backward) {
  for (const auto& params : {kMobileNet, kEfficientNet})
    for (const Shape& x : odd_images())
      for (const int64_t q : {1, 8, 40}) {
        const int64_t n = x[0], c = x[3];
        check_op({.slot = squeeze_excitation_backward,
                  .label = name(params.gate),
                  .inputs = {{"x", x},
                             {"dy", x},
                             f32_operand("w1", {q, c}),
                             f32_operand("w2", {c, q}),
                             f32_operand("pooled", {n, c}),
                             f32_operand("z1", {n, q}),
                             f32_operand("z2", {n, c})},
                  .outputs = {{"dx", x},
                              f32_operand("dw1", {q, c}),
                              f32_operand("db1", {q}),
                              f32_operand("dw2", {c, q}),
                              f32_operand("db2", {c})},
                  .run =
                      [params](Context& context, Tensors& t) {
                        squeeze_excitation_backward(context, t["x"], t["dy"], t["w1"], t["w2"], t["pooled"],
                                                    t["z1"], t["z2"], params, t["dx"], t["dw1"], t["db1"],
                                                    t["dw2"], t["db2"]);
                      },
                  .reference = [params](Arrays& a) { reference::squeeze_excitation_backward(params, a); }});
      }
}

// The rule that the operation records, as a whole.
TEST(SqueezeExcitationTest, Gradients) {
  for (const auto& params : {kMobileNet, kEfficientNet}) {
    const Shape x{2, 5, 3, 7};
    check_op({.slot = squeeze_excitation_forward,
              .label = name(params.gate),
              .inputs = {{"x", x, positive(-1, 1)},
                         {"w1", {4, 7}, positive(-1, 1), DType::f32},
                         {"b1", {4}, positive(-1, 1), DType::f32},
                         {"w2", {7, 4}, positive(-1, 1), DType::f32},
                         {"b2", {7}, positive(-1, 1), DType::f32}},
              .outputs = {{"y", x},
                          f32_operand("pooled", {2, 7}),
                          f32_operand("z1", {2, 4}),
                          f32_operand("z2", {2, 7})},
              .run =
                  [params](Context& context, Tensors& t) {
                    squeeze_excitation_forward(context, t["x"], t["w1"], t["b1"], t["w2"], t["b2"], params,
                                               t["y"], t["pooled"], t["z1"], t["z2"]);
                  },
              .reference = [params](Arrays& a) { reference::squeeze_excitation(params, a); },
              .op =
                  [params](Variables& v) {
                    return squeeze_excitation(v["x"], v["w1"], v["b1"], v["w2"], v["b2"], params);
                  }});
  }
}

TEST(SqueezeExcitationTest, RefusesWhatDoesNotFit) {
  const auto zeros = [](const Shape& shape) {
    return Variable(Tensor::zeros(shape, DType::f32, Device::cpu));
  };
  const auto apply = [&](const Shape& x, const Shape& w1, const Shape& w2) {
    return squeeze_excitation(zeros(x), zeros(w1), zeros({w1[0]}), zeros(w2), zeros({x[x.rank() - 1]}), {});
  };
  EXPECT_THROW(apply({1, 2, 2, 8}, {4, 7}, {8, 4}), Error);
  EXPECT_THROW(apply({1, 2, 2, 8}, {4, 8}, {8, 5}), Error);
  EXPECT_THROW(apply({2, 8}, {4, 8}, {8, 4}), Error);
  EXPECT_EQ(apply({1, 2, 2, 8}, {4, 1, 1, 8}, {8, 1, 1, 4}).shape(), (Shape{1, 2, 2, 8}));
}

}  // namespace
}  // namespace plume::test
