#include "engine/ops/batch_norm_excitation.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "engine/autograd/tape.h"
#include "tests/ops/reference/batch_norm.h"
#include "tests/ops/reference/convolution.h"
#include "tests/ops/reference/squeeze_excitation.h"
#include "tests/support/check_op.h"
#include "tests/support/stored.h"

namespace plume::test {
namespace {

constexpr SqueezeExcitationParams kMobileNet{Activation::relu, Activation::hardsigmoid};
constexpr SqueezeExcitationParams kEfficientNet{Activation::silu, Activation::sigmoid};
constexpr DType kDTypes[] = {DType::f32, DType::bf16, DType::f16};

Operand f32(const char* name, const Shape& shape, const Fill& fill = positive(-1, 1)) {
  return {name, shape, fill, DType::f32};
}

// ---- batch_norm_pool ----

void check_pool(const Shape& x, Activation activation, const Fill& fill = positive(-1, 1)) {
  const Shape channels{x[3]};
  const BatchNormParams p{.activation = activation};
  for (const DType dtype : kDTypes)
    check_op(
        {.slot = batch_norm_pool_forward,
         .label = name(activation),
         .inputs = {{"x", x, fill}, f32("gamma", channels), f32("beta", channels)},
         .updated = {f32("running_mean", channels), f32("running_var", channels, positive(0.1, 10))},
         .outputs = {{"y", x}, f32("mean", channels), f32("inv_std", channels), f32("pooled", {x[0], x[3]})},
         .run =
             [p](Context& context, Tensors& t) {
               Tensor parts = one_part(t["pooled"]);
               batch_norm_pool_forward(context, t["x"], t["gamma"], t["beta"], p, t["y"], t["mean"],
                                       t["inv_std"], t["running_mean"], t["running_var"], parts);
               add_parts(parts, t["pooled"]);
             },
         .reference =
             [p, dtype](Arrays& a) {
               reference::batch_norm_train(a["x"], a["gamma"], a["beta"], {}, p, a["y"], a["mean"],
                                           a["inv_std"], a["running_mean"], a["running_var"]);
               Array y = a["y"];
               store(y, dtype);
               const int64_t plane = y.dim(1) * y.dim(2);
               for (int64_t i = 0; i < a["pooled"].size(); ++i) {
                 Sum sum;
                 for (int64_t pixel = 0; pixel < plane; ++pixel)
                   sum += y.at(i / y.dim(3) * plane + pixel, i % y.dim(3));
                 a["pooled"][i] = Real(sum) / double(plane);
               }
             },
         .dtypes = {dtype}});
}

// Channels of one pack, of some that fill no tile, and odd ones; planes of one pixel, of fewer rows than a
// warp reads at once, with parts of equal lengths and not; several images in a slice, the last one not full.
const std::vector<Shape> kImages = {{2, 7, 7, 8},    {5, 7, 7, 72},  {3, 14, 14, 24},
                                    {1, 5, 3, 64},   {19, 1, 1, 16}, {2, 31, 31, 8},
                                    {40, 3, 3, 136}, {3, 9, 5, 17},  {1, 20, 16, 264}};

TEST(BatchNormPoolTest, Forward) {
  for (const Shape& x : kImages)
    for (const Activation activation : {Activation::silu, Activation::relu}) check_pool(x, activation);
  for (const Activation activation : reference::kActivations) check_pool({3, 5, 7, 24}, activation);
  check_pool({3, 5, 7, 24}, Activation::identity, offset(10000));
}

// As BatchNormTest.GroupsOfChannels.
TEST(BatchNormPoolTest, GroupsOfChannels) {
  constexpr const char* kVariable = "PLUME_SIMT_L2_KIB";
  for (const char* kib : {"100", "400", "1024"}) {
    setenv(kVariable, kib, 1);
    for (const Shape& x : {Shape{3, 15, 15, 200}, Shape{13, 7, 7, 200}}) check_pool(x, Activation::hardswish);
  }
  unsetenv(kVariable);
}

// ---- batch_norm_excitation.backward ----

struct BackwardCase {
  Shape x;
  int64_t hidden;
  Activation activation;
  SqueezeExcitationParams params;
};

// `only`: a variant that rounds nothing on its way.
void check_backward(const BackwardCase& c, DType dtype, const std::string& only) {
  const int64_t n = c.x[0], channels = c.x[3];
  check_op({.slot = batch_norm_excitation_backward,
            .label = message("{}, {}", name(c.activation), name(c.params.gate)),
            .inputs = {{"x", c.x, positive(-1, 1)},
                       {"dv", c.x, positive(-1, 1)},
                       f32("gamma", {channels}, positive(0.5, 2)),
                       f32("beta", {channels}),
                       f32("mean", {channels}),
                       f32("inv_std", {channels}, positive(0.1, 3)),
                       f32("w1", {c.hidden, channels}),
                       f32("w2", {channels, c.hidden}),
                       f32("pooled", {n, channels}),
                       f32("z1", {n, c.hidden}),
                       f32("z2", {n, channels})},
            .outputs = {{"dx", c.x},
                        f32("dgamma", {channels}),
                        f32("dbeta", {channels}),
                        f32("dw1", {c.hidden, channels}),
                        f32("db1", {c.hidden}),
                        f32("dw2", {channels, c.hidden}),
                        f32("db2", {channels})},
            .run =
                [c](Context& context, Tensors& t) {
                  batch_norm_excitation_backward(
                      context, t["x"], t["dv"],
                      {t["gamma"], t["beta"], t["mean"], t["inv_std"], c.activation}, t["w1"], t["w2"],
                      {t["pooled"], t["z1"], t["z2"]}, c.params, t["dx"], t["dgamma"], t["dbeta"], t["dw1"],
                      t["db1"], t["dw2"], t["db2"]);
                },
            .reference =
                [c, dtype, rounds = only.empty()](Arrays& a) {
                  const auto stored = [&](Array& values) {
                    if (rounds) store(values, dtype);
                  };
                  Array none, dx = a["dx"];
                  Arrays se = a;
                  reference::normalise(a["x"], a["gamma"], a["beta"], none, a["mean"], a["inv_std"],
                                       c.activation, se["x"]);
                  stored(se["x"]);
                  se["dy"] = a["dv"];
                  reference::squeeze_excitation_backward(c.params, se);
                  stored(se["dx"]);
                  reference::batch_norm_backward(a["x"], none, se["dx"], a["gamma"], a["beta"], a["mean"],
                                                 a["inv_std"], {c.activation, false}, a["dx"], none,
                                                 a["dgamma"], a["dbeta"]);
                  for (const char* of : {"dw1", "db1", "dw2", "db2"}) a[of] = se[of];
                },
            .dtypes = {dtype},
            .only = only});
}

TEST(BatchNormExcitationTest, Backward) {
  for (const Shape& x : kImages) {
    const BackwardCase c{x, 24, Activation::silu, kEfficientNet},
        few{x, 1, Activation::hardswish, kMobileNet};
    for (const BackwardCase& one : {c, few}) {
      check_backward(one, DType::f32, "");
      if (x[3] % 8 != 0) continue;
      for (const DType dtype : {DType::bf16, DType::f16}) check_backward(one, dtype, "image_per_block");
    }
  }
  for (const Activation activation : reference::kActivations)
    check_backward({{3, 5, 7, 24}, 40, activation, kMobileNet}, DType::bf16, "image_per_block");
  check_backward({{2, 5, 7, 24}, 8, Activation::silu, kEfficientNet}, DType::bf16, "");
}

// ---- the operation ----

struct Parameters {
  Variable x, gamma, beta, w1, b1, w2, b2, w;

  std::vector<Variable> all() const { return {x, gamma, beta, w1, b1, w2, b2, w}; }
};

TEST(BatchNormExcitationTest, Gradients) {
  for (const auto& params : {kMobileNet, kEfficientNet}) {
    const Shape x{3, 5, 3, 8};
    const BatchNormParams p{.activation = Activation::silu};
    const auto op = [p, params](Variables& v) {
      return batch_norm_excitation_conv_train(v["x"], v["gamma"], v["beta"], v["running_mean"].value(),
                                              v["running_var"].value(), p,
                                              {v["w1"], v["b1"], v["w2"], v["b2"]}, params, v["w"]);
    };
    check_op({.slot = gated_pointwise_forward,
              .label = name(params.gate),
              .inputs = {{"x", x, positive(-1, 1)},
                         f32("gamma", {8}, positive(0.5, 2)),
                         f32("beta", {8}),
                         f32("w1", {4, 8}),
                         f32("b1", {4}),
                         f32("w2", {8, 4}),
                         f32("b2", {8}),
                         {"w", {6, 1, 1, 8}, positive(-1, 1)}},
              .updated = {f32("running_mean", {8}), f32("running_var", {8}, positive(0.1, 10))},
              .outputs = {{"y", x.with(-1, 6)}},
              .run =
                  [op](Context&, Tensors& t) {
                    Variables v;
                    for (const auto& [name, tensor] : t)
                      if (tensor.defined()) v[name] = tensor;
                    t["y"].copy_from(op(v).value());
                  },
              .reference =
                  [p, params, x](Arrays& a) {
                    const Array none;
                    Array mean({8}), inv_std({8}), y = a["y"];
                    Arrays se = a;
                    se["x"] = se["y"] = Array(x);
                    reference::batch_norm_train(a["x"], a["gamma"], a["beta"], none, p, se["x"], mean,
                                                inv_std, a["running_mean"], a["running_var"]);
                    se["pooled"] = se["z2"] = Array({3, 8});
                    se["z1"] = Array({3, 4});
                    reference::squeeze_excitation(params, se);
                    reference::conv2d(se["y"], a["w"], {}, {none, none, none}, a["y"]);
                  },
              .op = op,
              .dtypes = {DType::f32}});
  }
}

// In 16 bits, where kernels join what they can: as close to the operations one by one as what these round on
// their way explains.
TEST(BatchNormExcitationTest, IsNormExcitationAndConvolutionInOne) {
  for (const Device device : devices_under_test())
    for (const SqueezeExcitationParams& params : {kMobileNet, kEfficientNet}) {
      RandomSequence random(5);
      const auto values = [&](const Shape& shape, DType dtype) {
        std::vector<double> list(size_t(shape.elements()));
        for (double& v : list) v = random.uniform(-1, 1);
        return Variable(to_tensor(list, shape, dtype, device), true);
      };
      constexpr DType kType = DType::bf16;
      const auto [n, h, w, c, hidden, filters] = std::array<int64_t, 6>{6, 7, 9, 72, 24, 40};
      const Parameters v{values({n, h, w, c}, kType),  values({c}, DType::f32),
                         values({c}, DType::f32),      values({hidden, 1, 1, c}, DType::f32),
                         values({hidden}, DType::f32), values({c, 1, 1, hidden}, DType::f32),
                         values({c}, DType::f32),      values({filters, 1, 1, c}, DType::f32)};
      const Tensor dy = values({n, h, w, filters}, kType).value();
      const BatchNormParams norm{.activation = Activation::silu};
      std::vector<std::vector<double>> results[3];
      for (const int kind : {0, 1, 2}) {
        Tensor mean = Tensor::zeros({c}, DType::f32, device), var = mean.clone();
        const auto apart = [&] {
          const Variable u = batch_norm_train(v.x, v.gamma, v.beta, {}, mean, var, norm);
          return conv2d(squeeze_excitation(u, v.w1, v.b1, v.w2, v.b2, params), v.w, {}, {});
        };
        if (kind == 1 && batch_norm_pool_forward.variant_count(device) > 1)
          batch_norm_pool_forward.prefer(device, "channel_groups");
        const Variable y = kind == 0
                               ? apart()
                               : batch_norm_excitation_conv_train(v.x, v.gamma, v.beta, mean, var, norm,
                                                                  {v.w1, v.b1, v.w2, v.b2}, params, v.w);
        batch_norm_pool_forward.prefer(device, "");
        for (Variable one : v.all()) one.clear_grad();
        backward(y, dy);
        for (const Tensor& t : {y.value(), mean, var}) results[kind].push_back(to_doubles(t));
        for (Variable one : v.all()) results[kind].push_back(to_doubles(one.grad()));
      }
      for (const int kind : {1, 2})
        for (size_t i = 0; i < results[0].size(); ++i) {
          double difference = 0, most = 0;
          for (size_t j = 0; j < results[0][i].size(); ++j) {
            difference = std::max(difference, std::fabs(results[kind][i][j] - results[0][i][j]));
            most = std::max(most, std::fabs(results[0][i][j]));
          }
          EXPECT_LE(difference, 0x1p-6 * most) << name(device) << ", " << name(params.gate) << ", " << i;
        }
    }
}

TEST(BatchNormExcitationTest, RefusesWhatDoesNotFit) {
  const auto zeros = [](const Shape& shape) {
    return Variable(Tensor::zeros(shape, DType::f32, Device::cpu));
  };
  Tensor mean = Tensor::zeros({8}, DType::f32, Device::cpu), var = mean.clone();
  const auto apply = [&](const Shape& w1, const Shape& w2, const Shape& w) {
    return batch_norm_excitation_conv_train(zeros({2, 2, 2, 8}), zeros({8}), zeros({8}), mean, var, {},
                                            {zeros(w1), zeros({w1[0]}), zeros(w2), zeros({8})}, {}, zeros(w));
  };
  EXPECT_THROW(apply({4, 7}, {8, 4}, {3, 1, 1, 8}), Error);
  EXPECT_THROW(apply({4, 8}, {8, 5}, {3, 1, 1, 8}), Error);
  EXPECT_THROW(apply({4, 8}, {8, 4}, {3, 3, 3, 8}), Error);
  EXPECT_THROW(apply({4, 8}, {8, 4}, {3, 1, 1, 4}), Error);
  EXPECT_EQ(apply({4, 1, 1, 8}, {8, 1, 1, 4}, {3, 1, 1, 8}).shape(), (Shape{2, 2, 2, 3}));
}

}  // namespace
}  // namespace plume::test
