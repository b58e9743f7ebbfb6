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
// several (64 rows of 64 x 24), with padding above, below and none, and rows that no output reads; more
// strips of columns than blocks, in two tiles of channels. 1x1 on the matrix core: copies of eight values,
// four (116 channels) and two (58), depths of one step of 64 layers to three, tiles of 32 to 128 columns and
// of several tiles of rows either way.
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
    {{2, 9, 11, 18}, {5, 5, 18}, {.stride = 1, .padding = 2}, Activation::silu},
    {{1, 8, 15, 6}, {3, 3, 6}, {.stride = 1, .padding = 0}, Activation::identity},
    {{3, 10, 9, 16}, {3, 3, 16}, {.stride = 2, .padding = 1}, Activation::relu},
    {{2, 9, 14, 6}, {3, 3, 6}, {.stride = 2, .padding = 1}, Activation::silu},
    {{3, 1, 1, 8}, {3, 3, 8}, {.stride = 2, .padding = 1}, Activation::hardswish},
    {{45, 2, 11, 514}, {3, 3, 514}, {.stride = 1, .padding = 1}, Activation::silu},
    {{2, 9, 15, 58}, {58, 1, 1, 58}, {}, Activation::identity},
    {{2, 8, 9, 116}, {116, 1, 1, 116}, {}, Activation::relu},
    {{3, 9, 10, 136}, {40, 1, 1, 136}, {}, Activation::silu},
    {{1, 6, 7, 72}, {24, 1, 1, 72}, {}, Activation::hardswish},
    {{1, 5, 5, 24}, {58, 1, 1, 24}, {}, Activation::sigmoid},
    {{1, 5, 5, 24}, {58, 1, 1, 24}, {}, Activation::identity},
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

// Any x and statistics, and dy.
std::vector<Operand> inputs_of(const BatchNormConvCase& c) {
  const Shape channels{c.x[3]};
  const Fill small = positive(-1, 1);
  return {{"x", c.x, small},
          {"gamma", channels, positive(0.5, 2), DType::f32},
          {"beta", channels, small, DType::f32},
          {"mean", channels, small, DType::f32},
          {"inv_std", channels, positive(0.1, 3), DType::f32},
          {"dy", output(c), small}};
}

// u, rounded.
Array made_of(Arrays& a, Activation activation, DType dtype) {
  Array u(a["x"].shape);
  reference::normalise(a["x"], a["gamma"], a["beta"], {}, a["mean"], a["inv_std"], activation, u);
  return rounded(u, dtype);
}

TEST(BatchNormConvTest, BackwardWeight) {
  for (const BatchNormConvCase& c : kCases)
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      check_op({.slot = batch_norm_conv_backward_weight,
                .label = label(c),
                .inputs = inputs_of(c),
                .outputs = {{.name = "dw", .shape = c.w, .dtype = DType::f32}},
                .run =
                    [activation = c.activation, conv = c.conv](Context& context, Tensors& t) {
                      batch_norm_conv_backward_weight(
                          context, t["x"], {t["gamma"], t["beta"], t["mean"], t["inv_std"], activation},
                          t["dy"], conv, t["dw"]);
                    },
                .reference =
                    [activation = c.activation, conv = c.conv, dtype](Arrays& a) {
                      const Array u = made_of(a, activation, dtype);
                      if (is_depthwise(a["dw"].shape))
                        reference::depthwise_conv2d_backward_weight(u, a["dy"], conv, a["dw"]);
                      else
                        reference::conv2d_backward_weight(u, a["dy"], conv, a["dw"]);
                    },
                .dtypes = {dtype}});
    }
}

// All gradients, of any x and statistics; du is rounded, too.
TEST(BatchNormConvTest, Backward) {
  for (const BatchNormConvCase& c : kCases)
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      const Shape channels{c.x[3]};
      std::vector<Operand> inputs = inputs_of(c);
      inputs.push_back({"w", c.w, positive(-1, 1)});
      check_op({.slot = batch_norm_conv_backward,
                .label = label(c),
                .inputs = inputs,
                .outputs = {{"dx", c.x},
                            {.name = "dw", .shape = c.w, .dtype = DType::f32},
                            {.name = "dgamma", .shape = channels, .dtype = DType::f32},
                            {.name = "dbeta", .shape = channels, .dtype = DType::f32}},
                .run =
                    [activation = c.activation, conv = c.conv](Context& context, Tensors& t) {
                      batch_norm_conv_backward(
                          context, t["x"], {t["gamma"], t["beta"], t["mean"], t["inv_std"], activation},
                          t["dy"], t["w"], conv, t["dx"], t["dw"], t["dgamma"], t["dbeta"]);
                    },
                .reference =
                    [activation = c.activation, conv = c.conv, dtype](Arrays& a) {
                      const Array none;
                      const Array u = made_of(a, activation, dtype);
                      Array du(a["x"].shape), dresidual;
                      if (is_depthwise(a["w"].shape)) {
                        reference::depthwise_conv2d_backward_weight(u, a["dy"], conv, a["dw"]);
                        reference::depthwise_conv2d_backward_input(a["dy"], a["w"], conv, du);
                      } else {
                        reference::conv2d_backward_weight(u, a["dy"], conv, a["dw"]);
                        reference::conv2d_backward_input(a["dy"], a["w"], conv, du);
                      }
                      reference::batch_norm_backward(a["x"], none, rounded(du, dtype), a["gamma"], a["beta"],
                                                     a["mean"], a["inv_std"], {activation, false}, a["dx"],
                                                     dresidual, a["dgamma"], a["dbeta"]);
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

// Values, statistics and all gradients of the operation, or of a norm and a convolution.
std::vector<std::vector<float>> training_results(Device device, DType dtype, const BatchNormConvCase& c,
                                                 bool fused) {
  RandomSequence random(5);
  const auto values = [&](const Shape& shape) {
    std::vector<float> list(size_t(shape.elements()));
    for (float& v : list) v = random.uniform(-1, 1);
    return Variable(Tensor::from(list, shape, device), true);
  };
  const auto list_of = [](const Tensor& t) {
    return cast(Variable(t), DType::f32).value().to_vector<float>();
  };
  const Shape channels{c.x[3]};
  const Variable leaf = values(c.x), w = values(c.w), gamma = values(channels), beta = values(channels);
  const Tensor dy = cast(Variable(values(output(c)).value()), dtype).value();
  const BatchNormParams params{.activation = c.activation};
  Tensor mean = Tensor::zeros(channels, DType::f32, device), var = mean.clone();
  const Variable x = cast(leaf, dtype);
  const auto in_two = [&] {
    const Variable u = batch_norm_train(x, gamma, beta, {}, mean, var, params);
    return is_depthwise(c.w) ? depthwise_conv2d(u, w, {}, c.conv) : conv2d(u, w, {}, c.conv);
  };
  const Variable y = fused ? batch_norm_conv_train(x, gamma, beta, mean, var, params, w, c.conv) : in_two();
  backward(y, dy);
  std::vector<std::vector<float>> results;
  for (const Tensor& t : {y.value(), mean, var, leaf.grad(), w.grad(), gamma.grad(), beta.grad()})
    results.push_back(list_of(t));
  return results;
}

// Not a bit differs, since what is not stored is computed by the same loops.
TEST(BatchNormConvTest, IsNormAndConvolutionInOne) {
  for (const Device device : devices_under_test())
    for (const BatchNormConvCase& c : kCases)
      EXPECT_EQ(training_results(device, DType::f32, c, false), training_results(device, DType::f32, c, true))
          << name(device) << ", " << label(c);
}

// In 16 bits statistics are those of another kernel, and a scale and a shift take the place of a difference:
// what lies near the middle of two values of u may be rounded to the other one, half a unit in the last
// place of y or of a gradient is so much again.
TEST(BatchNormConvTest, IsNearlyNormAndConvolutionIn16Bits) {
  for (const Device device : devices_under_test())
    for (int i = 0; i < batch_norm_conv_forward.variant_count(device); ++i) {
      const char* const variant = batch_norm_conv_forward.variant_name(device, i);
      batch_norm_conv_forward.prefer(device, variant);
      for (const BatchNormConvCase& c : kCases)
        for (const DType dtype : {DType::bf16, DType::f16}) {
          const double tolerance = dtype == DType::bf16 ? 0x1p-7 : 0x1p-10;
          const auto separate = training_results(device, dtype, c, false),
                     fused = training_results(device, dtype, c, true);
          for (size_t t = 0; t < separate.size(); ++t) {
            double largest = 0, difference = 0;
            for (size_t j = 0; j < separate[t].size(); ++j) {
              largest = std::max(largest, std::fabs(double(separate[t][j])));
              difference = std::max(difference, std::fabs(double(fused[t][j]) - separate[t][j]));
            }
            EXPECT_LE(difference, tolerance * largest) << name(device) << ", " << variant << ", "
                                                       << name(dtype) << ", " << label(c) << ", value " << t;
          }
        }
      batch_norm_conv_forward.prefer(device, "");
    }
}

}  // namespace
}  // namespace plume::test
