#include "engine/ops/conv_batch_norm.h"

#include <gtest/gtest.h>

#include "engine/autograd/tape.h"
#include "engine/ops/cast.h"
#include "engine/ops/stochastic_depth.h"
#include "tests/ops/reference/batch_norm.h"
#include "tests/ops/reference/convolution.h"
#include "tests/support/check_op.h"

namespace plume::test {
namespace {

struct ConvBatchNormCase {
  Shape x, w;
  Conv2dParams conv;
  Activation activation = Activation::identity;
  bool residual = false;
};

// Tiles of 32 and 64 columns, one and more of them; several tiles of rows; depth in slices; a matrix and
// taps; what the kernel for both does not take: odd channels, and more rows than a block has.
const std::vector<ConvBatchNormCase> kConvBatchNormCases = {
    {{2, 4, 4, 16}, {24, 1, 1, 16}, {}, Activation::relu},
    {{2, 4, 4, 512}, {72, 1, 1, 512}, {}, Activation::hardswish},
    {{3, 9, 9, 8}, {64, 1, 1, 8}, {}, Activation::identity, true},
    {{2, 7, 9, 40}, {96, 3, 3, 40}, {.stride = 1, .padding = 1}, Activation::silu},
    {{2, 15, 11, 16}, {136, 3, 3, 16}, {.stride = 2, .padding = 1}, Activation::relu, true},
    {{1, 32, 32, 8}, {8, 1, 1, 8}, {}, Activation::relu},
    {{2, 1, 1, 264}, {16, 3, 3, 264}, {.stride = 1, .padding = 1}, Activation::identity},
    {{1, 33, 32, 8}, {8, 1, 1, 8}, {}, Activation::relu},
    {{2, 5, 5, 3}, {17, 3, 3, 3}, {.stride = 2, .padding = 1}, Activation::relu},
    {{2, 9, 7, 24}, {3, 3, 24}, {.stride = 1, .padding = 1}, Activation::hardswish},
    {{2, 15, 15, 72}, {5, 5, 72}, {.stride = 2, .padding = 2}, Activation::relu, true},
    {{2, 16, 8, 8}, {3, 3, 8}, {.stride = 1, .padding = 1}, Activation::identity},
    {{1, 17, 16, 8}, {3, 3, 8}, {.stride = 1, .padding = 1}, Activation::silu},
    {{2, 5, 5, 3}, {3, 3, 3}, {.stride = 2, .padding = 1}, Activation::relu},
    // packs of four and of two: one tile of columns and more, of rows, and depth in slices
    {{2, 4, 4, 116}, {116, 1, 1, 116}, {}, Activation::relu},
    {{1, 4, 4, 580}, {92, 1, 1, 580}, {}, Activation::relu, true},
    {{3, 9, 9, 24}, {58, 1, 1, 24}, {}, Activation::hardswish},
    {{1, 2, 2, 514}, {58, 1, 1, 514}, {}, Activation::identity, true},
    {{2, 4, 4, 12}, {12, 3, 3, 12}, {.stride = 1, .padding = 1}, Activation::relu},
    {{2, 7, 7, 116}, {3, 3, 116}, {.stride = 2, .padding = 1}, Activation::relu, true},
    {{2, 9, 9, 58}, {3, 3, 58}, {.stride = 1, .padding = 1}, Activation::identity},
    {{2, 7, 8, 116}, {3, 3, 116}, {.stride = 2, .padding = 1}, Activation::relu},
    {{2, 15, 15, 72}, {5, 5, 72}, {.stride = 2, .padding = 2}, Activation::hardswish},
    {{1, 9, 8, 24}, {3, 3, 24}, {.stride = 1, .padding = 2, .dilation = 2}, Activation::silu},
};

double stored_error(DType dtype) { return dtype == DType::bf16 ? 0x1p16 : dtype == DType::f16 ? 0x1p13 : 0; }

TEST(ConvBatchNormTest, Forward) {
  for (const ConvBatchNormCase& c : kConvBatchNormCases)
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      const Shape z = any_conv2d_shape(c.x, c.w, c.conv), channels{z[3]};
      const BatchNormParams p{.activation = c.activation};
      // 16-bit gradients of z and the filter between finite differences of y: not compared.
      const std::function<Variable(Variables&)> op = [p, conv = c.conv](Variables& v) {
        return conv_batch_norm_train(v["x"], v["w"], v["gamma"], v["beta"], v["residual"],
                                     v["running_mean"].value(), v["running_var"].value(), conv, p);
      };
      std::vector<Operand> inputs{{"x", c.x, positive(-1, 1)},
                                  {"w", c.w, positive(-1, 1)},
                                  {"gamma", channels, positive(0.5, 2), DType::f32},
                                  {"beta", channels, positive(-1, 1), DType::f32}};
      if (c.residual) inputs.push_back({"residual", z});
      check_op({.slot = conv_batch_norm_forward,
                .label = message("{}, stride {}{}", name(c.activation), c.conv.stride,
                                 c.residual ? ", residual" : ""),
                .inputs = inputs,
                .updated = {{"running_mean", channels, outliers(), DType::f32},
                            {"running_var", channels, positive(0.1, 10), DType::f32}},
                .outputs = {{"y", z},
                            {"z", z},
                            {.name = "mean", .shape = channels, .dtype = DType::f32},
                            {.name = "inv_std", .shape = channels, .dtype = DType::f32}},
                .run =
                    [p, conv = c.conv](Context& context, Tensors& t) {
                      conv_batch_norm_forward(context, t["x"], t["w"], conv, t["gamma"], t["beta"],
                                              t["residual"], p, {}, t["z"], t["y"], t["mean"], t["inv_std"],
                                              t["running_mean"], t["running_var"]);
                    },
                .reference =
                    [p, conv = c.conv, dtype](Arrays& a) {
                      const Array none;
                      const auto& convolve =
                          is_depthwise(a["w"].shape) ? reference::depthwise_conv2d : reference::conv2d;
                      convolve(a["x"], a["w"], conv, {none, none, none, Activation::identity}, a["z"]);
                      Array stored = a["z"];
                      for (Real& v : stored.values) v.error += stored_error(dtype) * std::fabs(v.value);
                      reference::batch_norm_train(stored, a["gamma"], a["beta"], a["residual"], p, a["y"],
                                                  a["mean"], a["inv_std"], a["running_mean"],
                                                  a["running_var"]);
                    },
                .op = dtype == DType::f32 ? op : nullptr,
                .dtypes = {dtype}});
    }
}

// Of any z and statistics.
TEST(ConvBatchNormTest, Backward) {
  for (const ConvBatchNormCase& c : kConvBatchNormCases)
    for (const bool joined : {false, true}) {
      if (c.residual) continue;
      const Shape z = any_conv2d_shape(c.x, c.w, c.conv), channels{z[3]};
      const BatchNormBackwardParams p{c.activation, false};
      const Fill small = positive(-1, 1);  // f16 holds dz
      std::vector<Operand> inputs{{"x", c.x, small},
                                  {"w", c.w, small},
                                  {"z", z, small},
                                  {"dy", z, small},
                                  {"gamma", channels, positive(0.5, 2), DType::f32},
                                  {"beta", channels, small, DType::f32},
                                  {"mean", channels, small, DType::f32},
                                  {"inv_std", channels, positive(0.1, 3), DType::f32}};
      if (joined) inputs.push_back({"more", z, small});
      for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
        check_op(
            {.slot = conv_batch_norm_backward,
             .label = message("{}, stride {}{}", name(c.activation), c.conv.stride, joined ? ", joined" : ""),
             .inputs = inputs,
             .outputs = {{"dx", c.x},
                         {.name = "dw", .shape = c.w, .dtype = DType::f32},
                         {.name = "dgamma", .shape = channels, .dtype = DType::f32},
                         {.name = "dbeta", .shape = channels, .dtype = DType::f32}},
             .run =
                 [p, conv = c.conv](Context& context, Tensors& t) {
                   conv_batch_norm_backward(context, t["x"], t["w"], conv, t["z"], t["dy"], t["more"],
                                            t["gamma"], t["beta"], t["mean"], t["inv_std"], p.activation,
                                            t["dx"], t["dw"], t["dgamma"], t["dbeta"]);
                 },
             .reference =
                 [p, conv = c.conv, dtype](Arrays& a) {
                   Array dy = a["dy"], dz(a["z"].shape), none;
                   for (int64_t i = 0; i < a["more"].size(); ++i) dy[i] = dy[i] + a["more"][i];
                   reference::batch_norm_backward(a["z"], none, dy, a["gamma"], a["beta"], a["mean"],
                                                  a["inv_std"], p, dz, none, a["dgamma"], a["dbeta"]);
                   for (Real& v : dz.values) v.error += stored_error(dtype) * std::fabs(v.value);
                   if (is_depthwise(a["w"].shape)) {
                     reference::depthwise_conv2d_backward_input(dz, a["w"], conv, a["dx"]);
                     reference::depthwise_conv2d_backward_weight(a["x"], dz, conv, a["dw"]);
                   } else {
                     reference::conv2d_backward_input(dz, a["w"], conv, a["dx"]);
                     reference::conv2d_backward_weight(a["x"], dz, conv, a["dw"]);
                   }
                 },
             .dtypes = {dtype}});
      }
    }
}

void expect_one_is_two(const ConvBatchNormCase& c, bool dropped, Device device) {
  const Shape z = any_conv2d_shape(c.x, c.w, c.conv), channels{z[3]};
  RandomSequence random(5);
  const auto values = [&](const Shape& shape, DType dtype) {
    std::vector<float> list(size_t(shape.elements()));
    for (float& v : list) v = random.uniform(-1, 1);
    return Variable(cast(Tensor::from(list, shape, device), dtype).value(), true);
  };
  const Variable x = values(c.x, DType::bf16), w = values(c.w, DType::f32),
                 gamma = values(channels, DType::f32), beta = values(channels, DType::f32),
                 residual = c.residual ? values(z, DType::bf16) : Variable();
  const Tensor dy = values(z, DType::bf16).value();
  EXPECT_EQ(fuses_conv_batch_norm(x, w, c.conv), device != Device::cpu) << name(device);
  const BatchNormParams params{.activation = c.activation};
  SampleDrop drop;
  constexpr int64_t kState[] = {11, 4};
  if (dropped) drop = {Tensor::from(std::span<const int64_t>(kState), {2}, device), {0.5f, 2}};
  const auto in_two = [&](Tensor& mean, Tensor& var) {
    const Variable y = is_depthwise(c.w) ? depthwise_conv2d(x, w, {}, c.conv) : conv2d(x, w, {}, c.conv);
    return batch_norm_train(y, gamma, beta, residual, mean, var, params, drop);
  };
  std::vector<std::vector<float>> results[2];
  for (const bool fused : {false, true}) {
    Tensor mean = Tensor::zeros(channels, DType::f32, device), var = mean.clone();
    const Variable y =
        fused ? conv_batch_norm_train(x, w, gamma, beta, residual, mean, var, c.conv, params, drop)
              : in_two(mean, var);
    for (Variable v : {x, w, gamma, beta, residual})
      if (v.defined()) v.clear_grad();
    backward(y, dy);
    std::vector<Tensor> all{y.value(), mean, var, x.grad(), w.grad(), gamma.grad(), beta.grad()};
    if (c.residual) all.push_back(residual.grad());
    for (const Tensor& t : all) results[fused].push_back(cast(t, DType::f32).value().to_vector<float>());
  }
  for (size_t i = 0; i < results[0].size(); ++i) {
    double largest = 0, difference = 0;
    for (size_t j = 0; j < results[0][i].size(); ++j) {
      largest = std::max(largest, double(std::fabs(results[0][i][j])));
      difference = std::max(difference, double(std::fabs(results[0][i][j] - results[1][i][j])));
    }
    EXPECT_GT(largest, 0.0) << i;
    EXPECT_LE(difference, largest / 128) << name(device) << ", filter " << to_string(c.w) << ", result " << i;
  }
}

// Values, statistics and all gradients are those of the two operations, but for the order of sums, in 16 bits
// on every device; and the kernel for both is the one that is compared where there is one.
TEST(ConvBatchNormTest, IsConvolutionAndNormInOne) {
  for (const Device device : devices_under_test()) {
    for (const bool dropped : {false, true})
      expect_one_is_two({{2, 6, 6, 64}, {72, 3, 3, 64}, {1, 1}, Activation::identity, true}, dropped, device);
    for (const auto& [x, w] :
         {std::pair{Shape{2, 4, 4, 24}, Shape{58, 1, 1, 24}}, std::pair{Shape{2, 6, 6, 58}, Shape{3, 3, 58}},
          std::pair{Shape{2, 6, 6, 40}, Shape{5, 5, 40}}})
      expect_one_is_two({x, w, {1, is_depthwise(w) ? int(w[0]) / 2 : 0}, Activation::silu}, false, device);
  }
}

}  // namespace
}  // namespace plume::test
