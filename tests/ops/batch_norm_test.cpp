#include "engine/ops/batch_norm.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "engine/ops/stochastic_depth.h"
#include "tests/ops/reference/batch_norm.h"
#include "tests/support/check_op.h"

namespace plume::test {
namespace {

struct Form {
  Activation activation;
  bool residual;
};
constexpr Form kForms[] = {
    {Activation::identity, false}, {Activation::relu, false},       {Activation::identity, true},
    {Activation::relu, true},      {Activation::silu, false},       {Activation::hardswish, false},
    {Activation::sigmoid, false},  {Activation::hardsigmoid, true}, {Activation::hardsigmoid, false}};

std::string label(const Form& f) {
  return message("{}{}", name(f.activation), f.residual ? ", residual" : "");
}

// Training needs more than one value per channel. The last two: rows of channels that the cpu walks several
// at once, in vectors of sixteen and of eight.
std::vector<Shape> images() {
  return {{3, 1, 1, 17},  {1, 7, 7, 3},  {3, 7, 1, 64}, {3, 31, 31, 1},
          {3, 31, 7, 17}, {2, 8, 8, 24}, {3, 3, 3, 8}};
}

std::vector<Operand> inputs(const Shape& x, const Form& form, const Fill& fill) {
  const Shape channels{x[-1]};
  std::vector<Operand> list{{"x", x, fill},
                            {"gamma", channels, outliers(), DType::f32},
                            {"beta", channels, outliers(), DType::f32}};
  if (form.residual) list.push_back({"residual", x});
  return list;
}

void check_train(const Shape& x, const Form& form, const Fill& fill) {
  const Shape channels{x[-1]};
  const BatchNormParams p{.eps = 1e-5f, .momentum = 0.1f, .activation = form.activation};
  check_op({.slot = batch_norm_forward_train,
            .label = label(form),
            .inputs = inputs(x, form, fill),
            .updated = {{"running_mean", channels, outliers(), DType::f32},
                        {"running_var", channels, positive(0.1, 10), DType::f32}},
            .outputs = {{"y", x},
                        {.name = "mean", .shape = channels, .dtype = DType::f32},
                        {.name = "inv_std", .shape = channels, .dtype = DType::f32}},
            .run =
                [p](Context& c, Tensors& t) {
                  batch_norm_forward_train(c, t["x"], t["gamma"], t["beta"], t["residual"], p, {}, t["y"],
                                           t["mean"], t["inv_std"], t["running_mean"], t["running_var"]);
                },
            .reference =
                [p](Arrays& a) {
                  reference::batch_norm_train(a["x"], a["gamma"], a["beta"], a["residual"], p, a["y"],
                                              a["mean"], a["inv_std"], a["running_mean"], a["running_var"]);
                },
            .op =
                [p](Variables& v) {
                  return batch_norm_train(v["x"], v["gamma"], v["beta"], v["residual"],
                                          v["running_mean"].value(), v["running_var"].value(), p);
                }});
}

TEST(BatchNormTest, ForwardTrain) {
  for (const Form& form : kForms)
    for (const Shape& x : images()) check_train(x, form, outliers());
}

// The mean is thousands of times the deviation: E[x^2] - E[x]^2 would lose everything.
TEST(BatchNormTest, ForwardTrainWithLargeMean) {
  for (const Shape& x : images()) check_train(x, {Activation::identity, false}, offset(10000));
}

TEST(BatchNormTest, ForwardEval) {
  for (const Form& form : kForms)
    for (const Shape& x : odd_images()) {
      const Shape channels{x[-1]};
      const BatchNormParams p{.eps = 1e-3f, .activation = form.activation};
      std::vector<Operand> list = inputs(x, form, outliers());
      list.push_back({"mean", channels, outliers(), DType::f32, false});
      list.push_back({"var", channels, positive(0.1, 10), DType::f32, false});
      check_op({.slot = batch_norm_forward_eval,
                .label = label(form),
                .inputs = list,
                .outputs = {{"y", x}},
                .run =
                    [p](Context& c, Tensors& t) {
                      batch_norm_forward_eval(c, t["x"], t["gamma"], t["beta"], t["residual"], t["mean"],
                                              t["var"], p, t["y"]);
                    },
                .reference =
                    [p](Arrays& a) {
                      reference::batch_norm_eval(a["x"], a["gamma"], a["beta"], a["residual"], a["mean"],
                                                 a["var"], p, a["y"]);
                    },
                .op =
                    [p](Variables& v) {
                      return batch_norm_eval(v["x"], v["gamma"], v["beta"], v["residual"], v["mean"].value(),
                                             v["var"].value(), p);
                    }});
    }
}

std::vector<Operand> read_by_backward(const Shape& x) {
  const Shape channels{x[-1]};
  return {{"x", x},
          {"dy", x},
          {"gamma", channels, outliers(), DType::f32},
          {"beta", channels, outliers(), DType::f32},
          {"mean", channels, outliers(), DType::f32},
          {"inv_std", channels, positive(0.1, 3), DType::f32}};
}

void check_backward(const Shape& x, const Form& form, bool fixed, bool joined) {
  const Shape channels{x[-1]};
  const BatchNormBackwardParams p{form.activation, fixed};
  std::vector<Operand> list = read_by_backward(x);
  // Where the gradient does not read y it is not kept.
  if (form.residual && form.activation != Activation::identity) list.push_back({"y", x});
  std::vector<Operand> outputs{{"dx", x},
                               {.name = "dgamma", .shape = channels, .dtype = DType::f32},
                               {.name = "dbeta", .shape = channels, .dtype = DType::f32}};
  if (form.residual) outputs.push_back({"dresidual", x});
  if (joined) list.push_back({"more", x});
  check_op({.slot = batch_norm_backward,
            .label = label(form) + (fixed ? ", fixed statistics" : "") + (joined ? ", joined" : ""),
            .inputs = list,
            .outputs = outputs,
            .run =
                [p](Context& c, Tensors& t) {
                  batch_norm_backward(c, t["x"], t["y"], t["dy"], t["more"], t["gamma"], t["beta"], t["mean"],
                                      t["inv_std"], p, {}, t["dx"], t["dresidual"], t["dgamma"], t["dbeta"]);
                },
            .reference =
                [p](Arrays& a) {
                  Array dy = a["dy"];
                  for (int64_t i = 0; i < a["more"].size(); ++i) dy[i] = dy[i] + a["more"][i];
                  reference::batch_norm_backward(a["x"], a["y"], dy, a["gamma"], a["beta"], a["mean"],
                                                 a["inv_std"], p, a["dx"], a["dresidual"], a["dgamma"],
                                                 a["dbeta"]);
                }});
}
void check_backward(bool fixed, bool joined) {
  for (const Form& form : kForms)
    for (const Shape& x : images()) check_backward(x, form, fixed, joined);
}

TEST(BatchNormTest, Backward) { check_backward(false, false); }
TEST(BatchNormTest, BackwardWithFixedStatistics) { check_backward(true, false); }
TEST(BatchNormTest, BackwardOfTwoGradients) { check_backward(false, true); }

// Groups of channels that take turns, as the L2 has room for them (kernels/batch_norm_groups.h): one tile of
// half a line or a line without a lag, one with it, two with it; the last of them is not full.
TEST(BatchNormTest, GroupsOfChannels) {
  constexpr const char* kVariable = "PLUME_SIMT_L2_KIB";
  const Shape x{3, 15, 15, 200};
  for (const char* kib : {"100", "400", "1024", "2048"}) {
    setenv(kVariable, kib, 1);
    check_train(x, {Activation::relu, true}, outliers());
    check_train(x, {Activation::silu, false}, offset(10000));
    check_backward(x, {Activation::relu, false}, false, false);
    check_backward(x, {Activation::relu, true}, false, true);
    check_backward(x, {Activation::silu, false}, true, false);
  }
  unsetenv(kVariable);
}

// Whole samples left out: the residual is added after the activation, and has the whole gradient.
constexpr DropoutParams kDrop{0.4f, 2};
constexpr int64_t kDropState[] = {11, 4};

Real kept(int64_t row, const Shape& x) {
  const int64_t n = row / (x.elements() / x[-1] / x[0]);
  return double(stochastic_depth_scale(kDropState, kDrop, n));
}
SampleDrop drop_on(Device device) {
  return {Tensor::from(std::span<const int64_t>(kDropState), {2}, device), kDrop};
}

TEST(BatchNormTest, ForwardTrainWithDroppedSamples) {
  for (const Activation activation : {Activation::identity, Activation::silu})
    for (const Shape& x : {Shape{9, 7, 7, 17}, Shape{9, 1, 1, 3}, Shape{5, 31, 31, 8}}) {
      const Shape channels{x[-1]};
      const BatchNormParams p{.activation = activation};
      check_op({.slot = batch_norm_forward_train,
                .label = message("{}, dropped", name(activation)),
                .inputs = inputs(x, {activation, true}, outliers()),
                .updated = {{"running_mean", channels, outliers(), DType::f32},
                            {"running_var", channels, positive(0.1, 10), DType::f32}},
                .outputs = {{"y", x},
                            {.name = "mean", .shape = channels, .dtype = DType::f32},
                            {.name = "inv_std", .shape = channels, .dtype = DType::f32}},
                .run =
                    [p](Context& c, Tensors& t) {
                      batch_norm_forward_train(c, t["x"], t["gamma"], t["beta"], t["residual"], p,
                                               drop_on(c.device()), t["y"], t["mean"], t["inv_std"],
                                               t["running_mean"], t["running_var"]);
                    },
                .reference =
                    [p, x](Arrays& a) {
                      const Array none;
                      reference::batch_norm_train(a["x"], a["gamma"], a["beta"], none, p, a["y"], a["mean"],
                                                  a["inv_std"], a["running_mean"], a["running_var"]);
                      for (int64_t row = 0; row < a["x"].rows(); ++row)
                        for (int64_t c = 0; c < x[-1]; ++c)
                          a["y"].at(row, c) = a["y"].at(row, c) * kept(row, x) + a["residual"].at(row, c);
                    }});
    }
}

TEST(BatchNormTest, BackwardWithDroppedSamples) {
  for (const Activation activation : {Activation::identity, Activation::silu})
    for (const bool joined : {false, true})
      for (const Shape& x : {Shape{9, 7, 7, 17}, Shape{9, 1, 1, 3}, Shape{5, 31, 31, 8}}) {
        const Shape channels{x[-1]};
        const BatchNormBackwardParams p{activation, false};
        std::vector<Operand> list = read_by_backward(x);
        if (joined) list.push_back({"more", x});
        check_op({.slot = batch_norm_backward,
                  .label = message("{}, dropped{}", name(activation), joined ? ", joined" : ""),
                  .inputs = list,
                  .outputs = {{"dx", x},
                              {"dresidual", x},
                              {.name = "dgamma", .shape = channels, .dtype = DType::f32},
                              {.name = "dbeta", .shape = channels, .dtype = DType::f32}},
                  .run =
                      [p](Context& c, Tensors& t) {
                        batch_norm_backward(c, t["x"], Tensor(), t["dy"], t["more"], t["gamma"], t["beta"],
                                            t["mean"], t["inv_std"], p, drop_on(c.device()), t["dx"],
                                            t["dresidual"], t["dgamma"], t["dbeta"]);
                      },
                  .reference =
                      [p, x](Arrays& a) {
                        Array dy = a["dy"], none;
                        for (int64_t i = 0; i < a["more"].size(); ++i) dy[i] = dy[i] + a["more"][i];
                        a["dresidual"].values = dy.values;
                        for (int64_t row = 0; row < dy.rows(); ++row)
                          for (int64_t c = 0; c < x[-1]; ++c) dy.at(row, c) = dy.at(row, c) * kept(row, x);
                        reference::batch_norm_backward(a["x"], none, dy, a["gamma"], a["beta"], a["mean"],
                                                       a["inv_std"], p, a["dx"], none, a["dgamma"],
                                                       a["dbeta"]);
                      }});
      }
}

TEST(BatchNormTest, InverseStandardDeviation) {
  for (const Shape& channels : {Shape{1}, Shape{300}})
    check_op({.slot = batch_norm_inv_std,
              .inputs = {{"var", channels, positive(0.1, 10), DType::f32}},
              .outputs = {{.name = "inv_std", .shape = channels, .dtype = DType::f32}},
              .run = [](Context& c, Tensors& t) { batch_norm_inv_std(c, t["var"], 1e-3f, t["inv_std"]); },
              .reference =
                  [](Arrays& a) {
                    for (int64_t c = 0; c < a["var"].dim(0); ++c)
                      a["inv_std"][c] = 1.0 / sqrt(a["var"][c] + double(1e-3f));
                  },
              .dtypes = {DType::f32}});
}

TEST(BatchNormTest, OneValuePerChannelIsAnError) {
  const Tensor one = Tensor::zeros({3}, DType::f32, Device::cpu);
  Tensor mean = one.clone(), var = one.clone();
  EXPECT_THROW(
      batch_norm_train(Tensor::zeros({1, 1, 1, 3}, DType::f32, Device::cpu), one, one, {}, mean, var, {}),
      Error);
}

}  // namespace
}  // namespace plume::test
