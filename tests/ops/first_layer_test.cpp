#include "engine/ops/first_layer.h"

#include <gtest/gtest.h>

#include "engine/autograd/tape.h"
#include "engine/ops/add.h"
#include "tests/ops/convolution_cases.h"
#include "tests/ops/pooled_norm.h"
#include "tests/ops/reference/batch_norm.h"
#include "tests/ops/reference/convolution.h"

namespace plume::test {
namespace {

struct FirstLayerCase {
  ConvCase conv;
  Activation activation = Activation::relu;
  std::optional<MaxPool2dParams> pool = MaxPool2dParams{.window = 3, .stride = 2, .padding = 1};
  bool joint = true;  // is there a kernel for both gradients?

  Shape channels() const { return {conv.filters}; }
  Shape y() const { return pool ? max_pool2d_shape(conv.y(), *pool) : conv.y(); }
  const MaxPool2dParams* pool_or_null() const { return pool ? &*pool : nullptr; }
  std::string label() const {
    return message("{}, {}{}", conv.label(), name(activation),
                   pool ? message(", pooled {}x{} by {}", pool->window, pool->window, pool->stride) : "");
  }
};

// What networks begin with; rows of z even and odd, of one pixel and of more than sixteen, tall images in
// many bands, filters that fill their tiles and that do not, two groups of them. Then what is left to
// operations.
std::vector<FirstLayerCase> first_layer_cases() {
  const std::optional<MaxPool2dParams> none;
  return {
      {{{2, 23, 39, 3}, 16, 3, 3, {2, 1, 1}}, Activation::hardswish, none},
      {{{1, 140, 20, 3}, 8, 3, 3, {2, 0, 1}}, Activation::hardswish, none},
      {{{3, 16, 14, 3}, 24, 3, 3, {2, 1, 1}}, Activation::silu, none},
      {{{3, 15, 34, 3}, 32, 3, 3, {2, 1, 1}}, Activation::silu, none},
      {{{2, 21, 38, 3}, 24, 3, 3, {2, 1, 1}}},
      {{{3, 2, 2, 3}, 8, 3, 3, {2, 1, 1}}},
      {{{1, 300, 9, 3}, 32, 3, 3, {2, 1, 1}}},
      {{{2, 25, 36, 3}, 64, 7, 7, {2, 3, 1}}},
      {{{1, 19, 70, 3}, 40, 7, 7, {2, 3, 1}}},
      {{{1, 22, 20, 3}, 72, 7, 7, {2, 3, 1}}},
      {{{1, 9, 8, 3}, 16, 3, 3, {2, 1, 1}}, Activation::relu, none, false},
      {{{1, 9, 8, 3}, 16, 3, 3, {1, 1, 1}}, Activation::relu, MaxPool2dParams{3, 2, 1}, false},
      {{{1, 9, 8, 3}, 16, 3, 3, {2, 1, 1}}, Activation::relu, MaxPool2dParams{2, 2, 0}, false},
      {{{1, 9, 8, 3}, 17, 3, 3, {2, 1, 1}}, Activation::silu, none, false},
  };
}

void check_backward(const FirstLayerCase& c, bool joined, DType dtype, const char* variant) {
  const Fill small = positive(-1, 1);  // f16 holds dz
  std::vector<Operand> inputs{{"x", c.conv.x, small},
                              {"z", c.conv.y(), distinct()},
                              {"dy", c.y(), small},
                              {"gamma", c.channels(), small, DType::f32},
                              {"beta", c.channels(), small, DType::f32},
                              {"mean", c.channels(), small, DType::f32},
                              {"inv_std", c.channels(), positive(0.1, 3), DType::f32}};
  if (joined) inputs.push_back({"more", c.y(), small});
  const bool stored = std::string_view(variant) == "separate";
  check_op({.slot = first_layer_backward,
            .label = c.label() + (joined ? ", joined" : ""),
            .inputs = inputs,
            .outputs = {{.name = "dw", .shape = c.conv.w(), .dtype = DType::f32},
                        {.name = "dgamma", .shape = c.channels(), .dtype = DType::f32},
                        {.name = "dbeta", .shape = c.channels(), .dtype = DType::f32}},
            .run =
                [c](Context& context, Tensors& t) {
                  const WindowWinners winners =
                      c.pool ? winners_of(t["z"], t["gamma"], *c.pool)
                             : WindowWinners{.values = {}, .argmax = {}, .pool = {.window = 0}};
                  first_layer_backward(context, t["x"], c.conv.params, t["z"], winners, t["dy"], t["more"],
                                       {t["gamma"], t["beta"], t["mean"], t["inv_std"], c.activation},
                                       t["dw"], t["dgamma"], t["dbeta"]);
                },
            .reference =
                [=](Arrays& a) {
                  const double unit = dtype == DType::bf16 ? 0x1p16 : dtype == DType::f16 ? 0x1p13 : 0;
                  const auto round = [&](Array& gradient) {
                    for (Real& v : gradient.values) v.error += unit * std::fabs(v.value);
                  };
                  Array values(c.y()), argmax(c.y()), none, dz(c.conv.y()), du(c.conv.y());
                  if (c.pool) find_winners(a["z"], a["gamma"], *c.pool, values, argmax);
                  const auto before_pooling = [&](const Array& dy) {
                    if (!c.pool) return dy;
                    Array before(c.conv.y());
                    reference::max_pool2d_backward(dy, argmax, *c.pool, before);
                    if (stored) round(before);
                    return before;
                  };
                  du = before_pooling(a["dy"]);
                  if (joined) {
                    const Array more = before_pooling(a["more"]);
                    for (int64_t i = 0; i < du.size(); ++i) du[i] = du[i] + more[i];
                  }
                  reference::batch_norm_backward(a["z"], none, du, a["gamma"], a["beta"], a["mean"],
                                                 a["inv_std"], {c.activation, false}, dz, none, a["dgamma"],
                                                 a["dbeta"]);
                  round(dz);
                  reference::conv2d_backward_weight(a["x"], dz, c.conv.params, a["dw"]);
                },
            .dtypes = {dtype},
            .only = variant});
}

TEST(FirstLayerTest, Backward) {
  for (const FirstLayerCase& c : first_layer_cases())
    for (const bool joined : {false, true})
      for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
        check_backward(c, joined, dtype, "separate");
        if (dtype != DType::f32 && c.joint) check_backward(c, joined, dtype, "stem");
      }
}

// What a step gives: y, running statistics and gradients, where two operations read y.
std::vector<Tensor> first_layer_step(const FirstLayerCase& c, DType dtype, Device device, bool in_one,
                                     bool* fuses = nullptr) {
  const Variable x(some_numbers(c.conv.x, dtype, device, 1));
  const Variable w(some_numbers(c.conv.w(), DType::f32, device, 2), true),
      gamma(some_numbers(c.channels(), DType::f32, device, 3), true),
      beta(some_numbers(c.channels(), DType::f32, device, 4), true);
  Tensor mean = some_numbers(c.channels(), DType::f32, device, 5), var = mean.clone();
  const BatchNormParams params{.activation = c.activation};
  if (fuses) *fuses = fuses_first_layer(x, w, c.conv.params, params, c.pool_or_null());
  const auto apart = [&] {
    const Variable z = conv2d(x, w, {}, c.conv.params);
    return c.pool ? batch_norm_max_pool_train(z, gamma, beta, mean, var, params, *c.pool)
                  : batch_norm_train(z, gamma, beta, {}, mean, var, params);
  };
  const Variable y =
      in_one ? first_layer_train(x, w, gamma, beta, mean, var, c.conv.params, params, c.pool_or_null())
             : apart();
  backward(add(y, y), some_numbers(c.y(), dtype, device, 6));
  return {y.value(), mean, var, gamma.grad(), beta.grad(), w.grad()};
}

double distance(const Tensor& a, const Tensor& b) {
  const std::vector<double> first = to_doubles(a), second = to_doubles(b);
  double difference = 0, length = 0;
  for (size_t i = 0; i < first.size(); ++i) {
    difference += std::pow(first[i] - second[i], 2);
    length += std::pow(second[i], 2);
  }
  return std::sqrt(difference / length);
}

// Where there is no kernel for both gradients not a bit differs; where there is one, the sums that it
// multiplies are those of the operations apart, of which one stores dz in between.
TEST(FirstLayerTest, IsItsOperationsInOne) {
  for (const Device device : devices_under_test())
    for (const FirstLayerCase& c : first_layer_cases())
      for (const DType dtype : {DType::f32, DType::bf16}) {
        bool fuses = false;
        const auto in_one = first_layer_step(c, dtype, device, true, &fuses),
                   apart = first_layer_step(c, dtype, device, false);
        EXPECT_EQ(fuses, c.joint && dtype != DType::f32 && device != Device::cpu)
            << message("{}, {}, {}", device, dtype, c.label());
        ASSERT_EQ(in_one.size(), apart.size());
        for (size_t k = 0; k < in_one.size(); ++k) {
          const auto where = message("{}, {}, {}, result {}", device, dtype, c.label(), k);
          if (!fuses || k < 3)
            EXPECT_EQ(to_doubles(in_one[k]), to_doubles(apart[k])) << where;
          else
            EXPECT_LE(distance(in_one[k], apart[k]), k < 5 ? 1e-5 : 2e-3) << where;
        }
      }
}

TEST(FirstLayerTest, Repeats) {
  for (const Device device : devices_under_test())
    for (const FirstLayerCase& c : {first_layer_cases()[1], first_layer_cases()[6]}) {
      const auto first = first_layer_step(c, DType::bf16, device, true),
                 second = first_layer_step(c, DType::bf16, device, true);
      for (size_t k = 0; k < first.size(); ++k)
        EXPECT_EQ(to_doubles(first[k]), to_doubles(second[k])) << message("{}, {}", device, c.label());
    }
}

TEST(FirstLayerTest, ImagesHaveNoGradient) {
  const FirstLayerCase c = first_layer_cases()[4];
  for (const Device device : devices_under_test()) {
    const Variable x(some_numbers(c.conv.x, DType::bf16, device, 1), true),
        w(some_numbers(c.conv.w(), DType::f32, device, 2), true);
    EXPECT_FALSE(fuses_first_layer(x, w, c.conv.params, {.activation = c.activation}, c.pool_or_null()));
  }
}

}  // namespace
}  // namespace plume::test
