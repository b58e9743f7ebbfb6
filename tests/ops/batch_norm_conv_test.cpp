#include "engine/ops/batch_norm_conv.h"

#include <gtest/gtest.h>

#include "engine/autograd/tape.h"
#include "engine/ops/cast.h"
#include "tests/ops/reference/batch_norm.h"
#include "tests/ops/reference/convolution.h"
#include "tests/support/check_op.h"

namespace plume::test {
namespace {

struct BatchNormConvCase {
  Shape x, w;
  Conv2dParams conv;
  Activation activation = Activation::identity;
};

// 1x1 and 3x3, strides, images of one row and of few pixels, several images in a part and a last part that is
// shorter; channels that fill vectors, and those that do not; depthwise images in one block of rows and in
// several (64 rows of 64 x 24), with padding above, below and none, and rows that no output reads.
const std::vector<BatchNormConvCase> kCases = {
    {{2, 6, 5, 16}, {24, 1, 1, 16}, {}, Activation::relu},
    {{2, 4, 4, 16}, {8, 1, 1, 16}, {}, Activation::relu},
    {{35, 5, 5, 8}, {8, 1, 1, 8}, {}, Activation::hardswish},
    {{3, 7, 9, 24}, {16, 3, 3, 24}, {.stride = 1, .padding = 1}, Activation::silu},
    {{2, 11, 12, 13}, {5, 3, 3, 13}, {.stride = 2, .padding = 1}, Activation::identity},
    {{2, 9, 7, 24}, {3, 3, 24}, {.stride = 1, .padding = 1}, Activation::hardswish},
    {{3, 10, 8, 16}, {5, 5, 16}, {.stride = 2, .padding = 2}, Activation::relu},
    {{1, 9, 9, 17}, {3, 3, 17}, {.stride = 2, .padding = 0}, Activation::silu},
    {{1, 64, 64, 24}, {3, 3, 24}, {.stride = 1, .padding = 1}, Activation::relu},
    {{1, 65, 64, 24}, {5, 5, 24}, {.stride = 2, .padding = 2}, Activation::identity},
    {{2, 6, 6, 3}, {3, 3, 3}, {.stride = 1, .padding = 1}, Activation::relu},
    {{2, 9, 8, 24}, {3, 3, 24}, {.stride = 1, .padding = 2, .dilation = 2}, Activation::silu},
};

Shape output(const BatchNormConvCase& c) { return any_conv2d_shape(c.x, c.w, c.conv); }

std::string label(const BatchNormConvCase& c) {
  return message("{}, stride {}, filter {}", name(c.activation), c.conv.stride, c.w);
}

// u is rounded where it is stored, or would be.
double rounding(DType dtype) { return dtype == DType::bf16 ? 0x1p16 : dtype == DType::f16 ? 0x1p13 : 0; }
Array rounded(Array u, DType dtype) {
  for (Real& v : u.values) v.error += rounding(dtype) * std::fabs(v.value);
  return u;
}

TEST(BatchNormConvTest, Forward) {
  for (const BatchNormConvCase& c : kCases)
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      const Shape y = output(c), channels{c.x[3]};
      const BatchNormParams p{.activation = c.activation};
      // 16-bit gradients of u lie between finite differences of y: not compared.
      const std::function<Variable(Variables&)> op = [p, conv = c.conv](Variables& v) {
        return batch_norm_conv_train(v["x"], v["gamma"], v["beta"], v["running_mean"].value(),
                                     v["running_var"].value(), p, v["w"], conv);
      };
      check_op(
          {.slot = batch_norm_conv_forward,
           .label = label(c),
           .inputs = {{"x", c.x, positive(-1, 1)},
                      {"gamma", channels, positive(0.5, 2), DType::f32},
                      {"beta", channels, positive(-1, 1), DType::f32},
                      {"w", c.w, positive(-1, 1)}},
           .updated = {{"running_mean", channels, outliers(), DType::f32},
                       {"running_var", channels, positive(0.1, 10), DType::f32}},
           .outputs = {{"y", y},
                       {.name = "mean", .shape = channels, .dtype = DType::f32},
                       {.name = "inv_std", .shape = channels, .dtype = DType::f32}},
           .run =
               [p, conv = c.conv](Context& context, Tensors& t) {
                 batch_norm_conv_forward(context, t["x"], t["gamma"], t["beta"], p, t["w"], conv, t["y"],
                                         t["mean"], t["inv_std"], t["running_mean"], t["running_var"]);
               },
           .reference =
               [p, conv = c.conv, dtype](Arrays& a) {
                 const Array none;
                 Array u(a["x"].shape);
                 reference::batch_norm_train(a["x"], a["gamma"], a["beta"], none, p, u, a["mean"],
                                             a["inv_std"], a["running_mean"], a["running_var"]);
                 const auto& convolve =
                     is_depthwise(a["w"].shape) ? reference::depthwise_conv2d : reference::conv2d;
                 convolve(rounded(u, dtype), a["w"], conv, {none, none, none, Activation::identity}, a["y"]);
               },
           .op = dtype == DType::f32 ? op : nullptr,
           .dtypes = {dtype}});
    }
}

// Of any x and statistics.
TEST(BatchNormConvTest, BackwardWeight) {
  for (const BatchNormConvCase& c : kCases)
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      const Shape channels{c.x[3]};
      const Fill small = positive(-1, 1);
      check_op({.slot = batch_norm_conv_backward_weight,
                .label = label(c),
                .inputs = {{"x", c.x, small},
                           {"gamma", channels, positive(0.5, 2), DType::f32},
                           {"beta", channels, small, DType::f32},
                           {"mean", channels, small, DType::f32},
                           {"inv_std", channels, positive(0.1, 3), DType::f32},
                           {"dy", output(c), small}},
                .outputs = {{.name = "dw", .shape = c.w, .dtype = DType::f32}},
                .run =
                    [activation = c.activation, conv = c.conv](Context& context, Tensors& t) {
                      batch_norm_conv_backward_weight(
                          context, t["x"], {t["gamma"], t["beta"], t["mean"], t["inv_std"], activation},
                          t["dy"], conv, t["dw"]);
                    },
                .reference =
                    [activation = c.activation, conv = c.conv, dtype](Arrays& a) {
                      Array u(a["x"].shape);
                      reference::normalise(a["x"], a["gamma"], a["beta"], {}, a["mean"], a["inv_std"],
                                           activation, u);
                      u = rounded(u, dtype);
                      if (is_depthwise(a["dw"].shape))
                        reference::depthwise_conv2d_backward_weight(u, a["dy"], conv, a["dw"]);
                      else
                        reference::conv2d_backward_weight(u, a["dy"], conv, a["dw"]);
                    },
                .dtypes = {dtype}});
    }
}

TEST(BatchNormConvTest, Normalise) {
  for (const Shape& x : odd_images())
    for (const Activation activation : {Activation::identity, Activation::relu, Activation::silu}) {
      const Shape channels{x[3]};
      check_op({.slot = batch_norm_normalise,
                .label = name(activation),
                .inputs = {{"x", x, positive(-1, 1)},
                           {"gamma", channels, positive(0.5, 2), DType::f32},
                           {"beta", channels, positive(-1, 1), DType::f32},
                           {"mean", channels, positive(-1, 1), DType::f32},
                           {"inv_std", channels, positive(0.1, 3), DType::f32}},
                .outputs = {{"y", x}},
                .run =
                    [activation](Context& context, Tensors& t) {
                      batch_norm_normalise(context, t["x"],
                                           {t["gamma"], t["beta"], t["mean"], t["inv_std"], activation},
                                           t["y"]);
                    },
                .reference =
                    [activation](Arrays& a) {
                      reference::normalise(a["x"], a["gamma"], a["beta"], {}, a["mean"], a["inv_std"],
                                           activation, a["y"]);
                    }});
    }
}

// Values, statistics and all gradients are those of the two operations: not a bit differs, since what is not
// stored is computed by the same loops.
TEST(BatchNormConvTest, IsNormAndConvolutionInOne) {
  for (const Device device : devices_under_test())
    for (const BatchNormConvCase& c : kCases) {
      RandomSequence random(5);
      const auto values = [&](const Shape& shape) {
        std::vector<float> list(size_t(shape.elements()));
        for (float& v : list) v = random.uniform(-1, 1);
        return Variable(Tensor::from(list, shape, device), true);
      };
      const Shape channels{c.x[3]};
      const Variable x = values(c.x), w = values(c.w), gamma = values(channels), beta = values(channels);
      const Tensor dy = values(output(c)).value();
      const BatchNormParams params{.activation = c.activation};
      std::vector<std::vector<float>> results[2];
      for (const bool fused : {false, true}) {
        Tensor mean = Tensor::zeros(channels, DType::f32, device), var = mean.clone();
        const auto in_two = [&] {
          const Variable u = batch_norm_train(x, gamma, beta, {}, mean, var, params);
          return is_depthwise(c.w) ? depthwise_conv2d(u, w, {}, c.conv) : conv2d(u, w, {}, c.conv);
        };
        const Variable y =
            fused ? batch_norm_conv_train(x, gamma, beta, mean, var, params, w, c.conv) : in_two();
        for (Variable v : {x, w, gamma, beta}) v.clear_grad();
        backward(y, dy);
        for (const Tensor& t : {y.value(), mean, var, x.grad(), w.grad(), gamma.grad(), beta.grad()})
          results[fused].push_back(t.to_vector<float>());
      }
      EXPECT_EQ(results[0], results[1]) << name(device) << ", " << label(c);
    }
}

}  // namespace
}  // namespace plume::test
