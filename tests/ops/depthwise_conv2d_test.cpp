#include "engine/ops/depthwise_conv2d.h"

#include <gtest/gtest.h>

#include "tests/ops/convolution_cases.h"
#include "tests/ops/reference/convolution.h"
#include "tests/support/check_op.h"

namespace plume::test {
namespace {

TEST(DepthwiseConv2dTest, Forward) {
  for (const DepthwiseCase& c : depthwise_cases()) {
    const Conv2dParams p = c.params;
    check_op({.slot = depthwise_conv2d_forward,
              .label = c.label(),
              .inputs = {{"x", c.x}, {"w", c.w()}, {"bias", {c.x[3]}, short_values(), DType::f32}},
              .outputs = {{"y", c.y()}},
              .run =
                  [p](Context& context, Tensors& t) {
                    depthwise_conv2d_forward(context, t["x"], t["w"], p, {.shift = t["bias"]}, t["y"]);
                  },
              .reference =
                  [p](Arrays& a) {
                    reference::depthwise_conv2d(a["x"], a["w"], p, {a[""], a["bias"], a[""]}, a["y"]);
                  },
              .op = [p](Variables& v) { return depthwise_conv2d(v["x"], v["w"], v["bias"], p); }});
  }
}

TEST(DepthwiseConv2dTest, Epilogue) {
  for (const Activation activation :
       {Activation::identity, Activation::relu, Activation::hardswish, Activation::silu})
    for (const int residual : {0, 1, 2})  // 2: behind the activation
      for (const DepthwiseCase& c :
           {DepthwiseCase{{3, 7, 7, 17}, 3, 3, {1, 1, 1}}, DepthwiseCase{{1, 31, 7, 24}, 5, 5, {2, 2, 1}},
            DepthwiseCase{{1, 7, 7, 64}, 7, 7, {1, 3, 1}}}) {
        const Conv2dParams p = c.params;
        std::vector<Operand> inputs{{"x", c.x},
                                    {"w", c.w()},
                                    {"scale", {c.x[3]}, outliers(), DType::f32},
                                    {"shift", {c.x[3]}, short_values(), DType::f32}};
        if (residual) inputs.push_back({"residual", c.y()});
        check_op(
            {.slot = depthwise_conv2d_forward,
             .label = c.label() + ", scale, shift, " + name(activation) + (residual ? ", residual" : "") +
                      (residual == 2 ? " last" : ""),
             .inputs = inputs,
             .outputs = {{"y", c.y()}},
             .run =
                 [=](Context& context, Tensors& t) {
                   const Epilogue epilogue{t["scale"], t["shift"], t["residual"], activation, residual == 2};
                   depthwise_conv2d_forward(context, t["x"], t["w"], p, epilogue, t["y"]);
                 },
             .reference =
                 [=](Arrays& a) {
                   reference::depthwise_conv2d(
                       a["x"], a["w"], p, {a["scale"], a["shift"], a["residual"], activation, residual == 2},
                       a["y"]);
                 }});
      }
}

TEST(DepthwiseConv2dTest, BackwardInput) {
  for (const DepthwiseCase& c : depthwise_cases()) {
    const Conv2dParams p = c.params;
    check_op(
        {.slot = depthwise_conv2d_backward_input,
         .label = c.label(),
         .inputs = {{"dy", c.y()}, {"w", c.w()}},
         .outputs = {{"dx", c.x}},
         .run = [p](Context& context,
                    Tensors& t) { depthwise_conv2d_backward_input(context, t["dy"], t["w"], p, t["dx"]); },
         .reference =
             [p](Arrays& a) { reference::depthwise_conv2d_backward_input(a["dy"], a["w"], p, a["dx"]); }});
  }
}

void check_backward_weight(const DepthwiseCase& c, std::optional<DType> result, std::vector<DType> dtypes) {
  const Conv2dParams p = c.params;
  check_op(
      {.slot = depthwise_conv2d_backward_weight,
       .label = c.label(),
       .inputs = {{"x", c.x}, {"dy", c.y()}},
       .outputs = {{"dw", c.w(), outliers(), result}},
       .run = [p](Context& context,
                  Tensors& t) { depthwise_conv2d_backward_weight(context, t["x"], t["dy"], p, t["dw"]); },
       .reference =
           [p](Arrays& a) { reference::depthwise_conv2d_backward_weight(a["x"], a["dy"], p, a["dw"]); },
       .dtypes = std::move(dtypes)});
}

TEST(DepthwiseConv2dTest, BackwardWeight) {
  for (const DepthwiseCase& c : depthwise_cases())
    check_backward_weight(c, {}, {DType::f32, DType::bf16, DType::f16});
}

TEST(DepthwiseConv2dTest, BackwardWeightInF32OfShortImages) {
  for (const DepthwiseCase& c : depthwise_cases()) check_backward_weight(c, DType::f32, {DType::bf16});
}

TEST(DepthwiseConv2dTest, RefusesWhatDoesNotFit) {
  const auto shape = [](const Shape& x, const Shape& w, const Conv2dParams& p) {
    return depthwise_conv2d_shape(x, w, p);
  };
  EXPECT_THROW(shape({1, 7, 7, 3}, {3, 3, 4}, {}), Error);
  EXPECT_THROW(shape({1, 7, 7}, {3, 3, 7}, {}), Error);
  EXPECT_THROW(shape({1, 2, 2, 3}, {5, 5, 3}, {}), Error);
  EXPECT_EQ(shape({2, 7, 9, 3}, {3, 3, 3}, {2, 1, 1}), (Shape{2, 4, 5, 3}));
}

}  // namespace
}  // namespace plume::test
