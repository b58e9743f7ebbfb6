#include "engine/ops/batch_norm_max_pool.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/autograd/tape.h"
#include "engine/ops/add.h"
#include "tests/ops/pooled_norm.h"
#include "tests/ops/reference/batch_norm.h"
#include "tests/support/check_op.h"

namespace plume::test {
namespace {

struct PooledNormCase {
  Shape x;
  MaxPool2dParams pool = {.window = 3, .stride = 2, .padding = 1};
  Activation activation = Activation::relu;

  Shape channels() const { return {x[3]}; }
  Shape y() const { return max_pool2d_shape(x, pool); }
  std::string label() const {
    return message("{}, window {}, stride {}, padding {}{}", name(activation), pool.window, pool.stride,
                   pool.padding, pool.ceil_mode ? ", ceil" : "");
  }
  // A kernel for both.
  bool joint() const {
    const MaxPool2dParams usual{.window = 3, .stride = 2, .padding = 1};
    const bool same = pool.window == 3 && pool.stride == 2 && pool.padding == 1;
    return same && y() == max_pool2d_shape(x, usual) && x[3] % 8 == 0 && !slope_needs_input(activation);
  }
};

// The usual pooling of odd and even images, of one row, one column, one image; channels of one pack, of
// three, of a tile, of a tile and a bit; 300 turns, two to a block; ceil_mode where it makes no difference,
// and where it makes one. Then what other poolings, channels and activations make of two operations.
const std::vector<PooledNormCase> kPooledNormCases = {
    {{2, 7, 5, 24}},
    {{1, 8, 8, 64}},
    {{3, 9, 12, 8}, {3, 2, 1}, Activation::identity},
    {{2, 6, 7, 72}, {3, 2, 1}, Activation::hardsigmoid},
    {{3, 1, 1, 8}},
    {{1, 1, 13, 16}},
    {{1, 12, 1, 40}, {3, 2, 1}, Activation::identity},
    {{70, 3, 5, 8}},
    {{1, 600, 2, 8}},
    {{1, 9, 7, 16}, {3, 2, 1, true}},
    {{1, 8, 7, 16}, {3, 2, 1, true}},
    {{2, 7, 5, 24}, {3, 2, 1}, Activation::silu},
    {{2, 7, 5, 17}},
    {{2, 7, 6, 8}, {2, 2, 0}},
    {{1, 9, 7, 8}, {3, 1, 1}, Activation::hardswish},
};

void reference_forward(Arrays& a, const PooledNormCase& c, const BatchNormParams& p) {
  Array u(c.x), places(c.y()), mean(c.channels()), inv_std(c.channels());
  reference::batch_norm_train(a["x"], a["gamma"], a["beta"], {}, p, u, mean, inv_std, a["running_mean"],
                              a["running_var"]);
  reference::max_pool2d(u, c.pool, a["y"], places);
  if (a["mean"].defined()) a["mean"] = mean, a["inv_std"] = inv_std;
}

OpCase pooled_norm_case(const PooledNormCase& c) {
  const BatchNormParams p{.activation = c.activation};
  return {.slot = batch_norm_max_pool_forward,
          .label = c.label(),
          .inputs = {{"x", c.x, distinct()},
                     {"gamma", c.channels(), outliers(), DType::f32},
                     {"beta", c.channels(), outliers(), DType::f32}},
          .updated = {{"running_mean", c.channels(), outliers(), DType::f32},
                      {"running_var", c.channels(), positive(0.1, 10), DType::f32}},
          .outputs = {{"y", c.y()},
                      {.name = "mean", .shape = c.channels(), .dtype = DType::f32},
                      {.name = "inv_std", .shape = c.channels(), .dtype = DType::f32}},
          .run =
              [p, pool = c.pool](Context& context, Tensors& t) {
                batch_norm_max_pool_forward(context, t["x"], t["gamma"], t["beta"], p, pool, t["y"],
                                            t["winners"], t["argmax"], t["mean"], t["inv_std"],
                                            t["running_mean"], t["running_var"]);
              },
          .reference = [c, p](Arrays& a) { reference_forward(a, c, p); }};
}

TEST(BatchNormMaxPoolTest, Forward) {
  for (const PooledNormCase& c : kPooledNormCases) {
    OpCase check = pooled_norm_case(c);
    check.op = [p = BatchNormParams{.activation = c.activation}, pool = c.pool](Variables& v) {
      return batch_norm_max_pool_train(v["x"], v["gamma"], v["beta"], v["running_mean"].value(),
                                       v["running_var"].value(), p, pool);
    };
    // In two steps 16-bit gradients are rounded between these: not compared with finite differences.
    if (!c.joint()) {
      check.dtypes = {DType::f32};
      check_op(check);
      check.op = nullptr;
      check.dtypes = {DType::bf16, DType::f16};
    }
    check_op(check);
  }
}

// Which winners are left for the gradient; they are those of x, whatever u is rounded to.
TEST(BatchNormMaxPoolTest, Winners) {
  for (const PooledNormCase& c : kPooledNormCases) {
    if (!c.joint()) continue;
    OpCase check = pooled_norm_case(c);
    check.outputs.push_back({"winners", c.y()});
    check.outputs.push_back({.name = "argmax", .shape = c.y(), .dtype = DType::u8});
    check.reference = [c, reference = check.reference](Arrays& a) {
      reference(a);
      find_winners(a["x"], a["gamma"], c.pool, a["winners"], a["argmax"]);
    };
    check.dtypes = {DType::bf16, DType::f16};
    check.only = "winners";
    check_op(check);
  }
}

// A slice that goes on in the next strip: 257 columns of one pack of channels, of two strips of 133 turns.
TEST(BatchNormMaxPoolTest, ManyStrips) {
  const PooledNormCase c{{257, 265, 1, 8}};
  OpCase check = pooled_norm_case(c);
  check.dtypes = {DType::bf16};
  check.only = "winners";
  check_op(check);
}

// `du_rounded`: the image's gradient behind the norm is stored.
void check_pooled_backward(const PooledNormCase& c, bool joined, DType dtype, const char* variant,
                           bool du_rounded) {
  std::vector<Operand> inputs{{"x", c.x, distinct()},
                              {"dy", c.y()},
                              {"gamma", c.channels(), outliers(), DType::f32},
                              {"beta", c.channels(), outliers(), DType::f32},
                              {"mean", c.channels(), outliers(), DType::f32},
                              {"inv_std", c.channels(), positive(0.1, 3), DType::f32}};
  if (joined) inputs.push_back({"more", c.y()});
  check_op({.slot = batch_norm_max_pool_backward,
            .label = c.label() + (joined ? ", joined" : ""),
            .inputs = inputs,
            .outputs = {{"dx", c.x},
                        {.name = "dgamma", .shape = c.channels(), .dtype = DType::f32},
                        {.name = "dbeta", .shape = c.channels(), .dtype = DType::f32}},
            .run =
                [c](Context& context, Tensors& t) {
                  batch_norm_max_pool_backward(context, t["x"], winners_of(t["x"], t["gamma"], c.pool),
                                               t["dy"], t["more"],
                                               {t["gamma"], t["beta"], t["mean"], t["inv_std"], c.activation},
                                               t["dx"], t["dgamma"], t["dbeta"]);
                },
            .reference =
                [=](Arrays& a) {
                  Array values(c.y()), argmax(c.y()), none, du(c.x);
                  find_winners(a["x"], a["gamma"], c.pool, values, argmax);
                  reference::max_pool2d_backward(a["dy"], argmax, c.pool, du);
                  const double unit = dtype == DType::bf16 ? 0x1p16 : dtype == DType::f16 ? 0x1p13 : 0;
                  const auto round = [&](Array& gradient) {
                    for (Real& v : gradient.values) v.error += du_rounded ? unit * std::fabs(v.value) : 0;
                  };
                  round(du);
                  if (joined) {
                    Array more(c.x);
                    reference::max_pool2d_backward(a["more"], argmax, c.pool, more);
                    round(more);
                    for (int64_t i = 0; i < du.size(); ++i) du[i] = du[i] + more[i];
                  }
                  reference::batch_norm_backward(a["x"], none, du, a["gamma"], a["beta"], a["mean"],
                                                 a["inv_std"], {c.activation, false}, a["dx"], none,
                                                 a["dgamma"], a["dbeta"]);
                },
            .dtypes = {dtype},
            .only = variant});
}

TEST(BatchNormMaxPoolTest, Backward) {
  for (const PooledNormCase& c : kPooledNormCases)
    for (const bool joined : {false, true})
      for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
        check_pooled_backward(c, joined, dtype, "separate", true);
        if (dtype != DType::f32 && c.joint()) check_pooled_backward(c, joined, dtype, "winners", false);
      }
}

// What a step gives: y, running statistics and gradients, where two operations read y.
std::vector<std::vector<double>> pooled_norm_step(const PooledNormCase& c, DType dtype, Device device,
                                                  bool in_one) {
  const Variable x(some_numbers(c.x, dtype, device, 1), true),
      gamma(some_numbers(c.channels(), DType::f32, device, 2), true),
      beta(some_numbers(c.channels(), DType::f32, device, 3), true);
  Tensor mean = some_numbers(c.channels(), DType::f32, device, 4), var = mean.clone();
  const BatchNormParams params{.activation = c.activation};
  const Variable y = in_one ? batch_norm_max_pool_train(x, gamma, beta, mean, var, params, c.pool)
                            : max_pool2d(batch_norm_train(x, gamma, beta, {}, mean, var, params), c.pool);
  backward(add(y, y), some_numbers(c.y(), dtype, device, 5));
  std::vector<std::vector<double>> results;
  for (const Tensor& t : {y.value(), mean, var, x.grad(), gamma.grad(), beta.grad()})
    results.push_back(to_doubles(t));
  return results;
}

// Where this is two operations not a bit differs; where it is not, 16-bit values and gradients do by a
// rounding or two.
TEST(BatchNormMaxPoolTest, IsNormAndPoolingInOne) {
  for (const Device device : devices_under_test())
    for (const PooledNormCase& c : kPooledNormCases)
      for (const DType dtype : {DType::f32, DType::f16}) {
        const auto in_one = pooled_norm_step(c, dtype, device, true),
                   in_two = pooled_norm_step(c, dtype, device, false);
        const bool same = dtype == DType::f32 || device == Device::cpu || !c.joint();
        ASSERT_EQ(in_one.size(), in_two.size());
        for (size_t k = 0; k < in_one.size(); ++k) {
          double difference = 0, length = 0;
          for (size_t i = 0; i < in_one[k].size(); ++i) {
            difference += std::pow(in_one[k][i] - in_two[k][i], 2);
            length += std::pow(in_two[k][i], 2);
          }
          EXPECT_LE(std::sqrt(difference), (same ? 0 : 2e-3) * std::sqrt(length))
              << message("{}, {}, {}, {}, result {}", device, dtype, c.x, c.label(), k);
        }
      }
}

// Two runs, and the same with a gradient that nobody wants: not a bit differs.
TEST(BatchNormMaxPoolTest, Repeats) {
  const PooledNormCase c{{1, 600, 2, 8}};
  for (const Device device : devices_under_test()) {
    const auto first = pooled_norm_step(c, DType::bf16, device, true);
    EXPECT_EQ(first, pooled_norm_step(c, DType::bf16, device, true)) << name(device);
    const NoGrad none;
    Tensor mean = some_numbers(c.channels(), DType::f32, device, 4), var = mean.clone();
    const Variable y = batch_norm_max_pool_train(
        some_numbers(c.x, DType::bf16, device, 1), some_numbers(c.channels(), DType::f32, device, 2),
        some_numbers(c.channels(), DType::f32, device, 3), mean, var, {.activation = c.activation}, c.pool);
    EXPECT_EQ(first[0], to_doubles(y.value())) << name(device);
  }
}

// A NaN is in the statistics, and so in all of its channel, but in no other.
TEST(BatchNormMaxPoolTest, NanFillsItsChannel) {
  const Shape shape{2, 7, 6, 16};
  for (const Device device : devices_under_test())
    for (const int64_t place : {int64_t(5), shape.elements() - 16 + 5}) {
      std::vector<double> values(size_t(shape.elements()), 0.5);
      for (size_t i = 0; i < values.size(); i += 3) values[i] = -1;
      values[size_t(place)] = NAN;
      const Variable x(to_tensor(values, shape, DType::bf16, device), true);
      const Variable gamma(some_numbers({16}, DType::f32, device, 2), true),
          beta(some_numbers({16}, DType::f32, device, 3));
      Tensor mean = some_numbers({16}, DType::f32, device, 4), var = mean.clone();
      const Variable y =
          batch_norm_max_pool_train(x, gamma, beta, mean, var, {.activation = Activation::relu},
                                    {.window = 3, .stride = 2, .padding = 1});
      backward(y, some_numbers(y.shape(), DType::bf16, device, 6));
      for (const Tensor& t : {y.value(), x.grad(), gamma.grad()}) {
        const std::vector<double> got = to_doubles(t);
        for (size_t i = 0; i < got.size(); ++i)
          ASSERT_EQ(std::isnan(got[i]), i % 16 == 5) << name(device) << ", " << i;
      }
    }
}

}  // namespace
}  // namespace plume::test
