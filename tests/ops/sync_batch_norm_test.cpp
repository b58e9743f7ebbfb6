#include "engine/ops/sync_batch_norm.h"

#include <gtest/gtest.h>

#include "engine/autograd/tape.h"
#include "engine/core/random.h"
#include "tests/ops/reference/batch_norm.h"
#include "tests/support/check_op.h"

namespace plume::test {
namespace {

struct SyncForm {
  Activation activation;
  bool residual;
};
constexpr SyncForm kSyncForms[] = {{Activation::identity, true},
                                   {Activation::relu, false},
                                   {Activation::relu, true},
                                   {Activation::hardswish, false}};

const std::vector<Shape>& sync_images() {
  static const std::vector<Shape> shapes{{3, 1, 1, 17}, {1, 7, 7, 3}, {3, 7, 1, 64}, {3, 31, 7, 17}};
  return shapes;
}

Operand per_channel(const char* name, const Shape& x, const Fill& fill = outliers()) {
  return {.name = name, .shape = {x[-1]}, .fill = fill, .dtype = DType::f32};
}

void check_statistics(const Shape& x, const Fill& fill) {
  check_op({.slot = sync_batch_norm_statistics,
            .inputs = {{"x", x, fill}},
            .outputs = {{.name = "moments", .shape = {x[-1], 3}, .dtype = DType::f32}},
            .run = [](Context& c, Tensors& t) { sync_batch_norm_statistics(c, t["x"], t["moments"]); },
            .reference =
                [](Arrays& a) {
                  const auto s = reference::batch_statistics(a["x"], 0);
                  for (int64_t c = 0; c < s.mean.size(); ++c) {
                    a["moments"].at(c, 0) = double(a["x"].rows());
                    a["moments"].at(c, 1) = s.mean[c];
                    a["moments"].at(c, 2) = s.var[c] * double(a["x"].rows());
                  }
                }});
}

TEST(SyncBatchNormTest, Statistics) {
  for (const Shape& x : sync_images()) {
    check_statistics(x, outliers());
    check_statistics(x, offset(10000));
  }
}

// Counts need not be whole numbers for the formula.
TEST(SyncBatchNormTest, Merge) {
  for (const int64_t ranks : {1, 2, 5, 12})
    for (const int64_t channels : {1, 17, 64}) {
      const Shape per{channels};
      const BatchNormParams p{.eps = 1e-3f, .momentum = 0.2f};
      check_op({.slot = sync_batch_norm_merge,
                .inputs = {{"moments", {ranks, channels, 3}, positive(1, 10), DType::f32}},
                .updated = {{"running_mean", per, outliers(), DType::f32},
                            {"running_var", per, positive(0.1, 10), DType::f32}},
                .outputs = {{.name = "count", .shape = per, .dtype = DType::f32},
                            {.name = "mean", .shape = per, .dtype = DType::f32},
                            {.name = "var", .shape = per, .dtype = DType::f32},
                            {.name = "inv_std", .shape = per, .dtype = DType::f32}},
                .run =
                    [p](Context& c, Tensors& t) {
                      sync_batch_norm_merge(c, t["moments"], p, t["count"], t["mean"], t["var"], t["inv_std"],
                                            t["running_mean"], t["running_var"]);
                    },
                .reference =
                    [p, ranks, channels](Arrays& a) {
                      const Array& m = a["moments"];
                      for (int64_t c = 0; c < channels; ++c) {
                        const auto part = [&](int64_t rank, int64_t i) {
                          return m.at(rank * channels + c, i);
                        };
                        Sum count, weighted, squares;
                        for (int64_t r = 0; r < ranks; ++r) {
                          count += part(r, 0);
                          weighted += part(r, 0) * part(r, 1);
                        }
                        const Real mean = Real(weighted) / Real(count);
                        for (int64_t r = 0; r < ranks; ++r) {
                          const Real distance = part(r, 1) - mean;
                          squares += part(r, 2) + part(r, 0) * distance * distance;
                        }
                        const Real var = Real(squares) / Real(count);
                        const Real unbiased =
                            Real(count).value < 2 ? Real(squares) : Real(squares) / (Real(count) - 1.0);
                        const double momentum = double(p.momentum);
                        a["count"][c] = count;
                        a["mean"][c] = mean;
                        a["var"][c] = var;
                        a["inv_std"][c] = 1.0 / sqrt(var + double(p.eps));
                        a["running_mean"][c] = (1 - momentum) * a["running_mean"][c] + momentum * mean;
                        a["running_var"][c] = (1 - momentum) * a["running_var"][c] + momentum * unbiased;
                      }
                    },
                .dtypes = {DType::f32}});
    }
}

std::vector<Operand> gradient_inputs(const Shape& x, const SyncForm& form) {
  std::vector<Operand> list{{"x", x},
                            {"dy", x},
                            per_channel("gamma", x),
                            per_channel("beta", x),
                            per_channel("mean", x),
                            per_channel("inv_std", x, positive(0.1, 3))};
  // Where the gradient does not read y it is not kept.
  if (form.residual && form.activation != Activation::identity) list.push_back({"y", x});
  return list;
}

TEST(SyncBatchNormTest, BackwardSums) {
  for (const SyncForm& form : kSyncForms)
    for (const Shape& x : sync_images())
      check_op({.slot = sync_batch_norm_backward_sums,
                .label = name(form.activation),
                .inputs = gradient_inputs(x, form),
                .outputs = {per_channel("dgamma", x), per_channel("dbeta", x)},
                .run =
                    [form](Context& c, Tensors& t) {
                      sync_batch_norm_backward_sums(c, t["x"], t["y"], t["dy"], t["gamma"], t["beta"],
                                                    t["mean"], t["inv_std"], form.activation, t["dgamma"],
                                                    t["dbeta"]);
                    },
                .reference =
                    [form](Arrays& a) {
                      Array dx(a["x"].shape), absent;
                      reference::batch_norm_backward(a["x"], a["y"], a["dy"], a["gamma"], a["beta"],
                                                     a["mean"], a["inv_std"], {form.activation, true}, dx,
                                                     absent, a["dgamma"], a["dbeta"]);
                    }});
}

TEST(SyncBatchNormTest, BackwardInput) {
  for (const SyncForm& form : kSyncForms)
    for (const Shape& x : sync_images()) {
      std::vector<Operand> list = gradient_inputs(x, form);
      list.push_back(per_channel("count", x, positive(100, 1000)));
      list.push_back({.name = "sums", .shape = {2, x[-1]}, .dtype = DType::f32});
      std::vector<Operand> outputs{{"dx", x}};
      if (form.residual) outputs.push_back({"dresidual", x});
      check_op({.slot = sync_batch_norm_backward_input,
                .label = name(form.activation),
                .inputs = list,
                .outputs = outputs,
                .run =
                    [form](Context& c, Tensors& t) {
                      sync_batch_norm_backward_input(c, t["x"], t["y"], t["dy"], t["gamma"], t["beta"],
                                                     t["mean"], t["inv_std"], t["count"], t["sums"],
                                                     form.activation, t["dx"], t["dresidual"]);
                    },
                .reference =
                    [form](Arrays& a) {
                      const int64_t channels = a["x"].dim(-1);
                      const Array dz =
                          reference::batch_norm_dz(a["x"], a["y"], a["dy"], a["gamma"], a["beta"], a["mean"],
                                                   a["inv_std"], form.activation);
                      for (int64_t row = 0; row < a["x"].rows(); ++row)
                        for (int64_t c = 0; c < channels; ++c) {
                          const Real xhat = (a["x"].at(row, c) - a["mean"][c]) * a["inv_std"][c];
                          const Real d = dz.at(row, c) - a["sums"].at(1, c) / a["count"][c] -
                                         xhat * a["sums"].at(0, c) / a["count"][c];
                          a["dx"].at(row, c) = a["gamma"][c] * a["inv_std"][c] * d;
                          if (a["dresidual"].defined()) a["dresidual"].at(row, c) = dz.at(row, c);
                        }
                    }});
    }
}

// In a world of one it is batch_norm.
TEST(SyncBatchNormTest, OneRankEqualsBatchNorm) {
  Communicator alone;
  for (const Device device : devices_under_test()) {
    RandomSequence random(3);
    const Shape shape{2, 5, 5, 9}, channels{9};
    const auto fresh = [&](const Shape& s) {
      std::vector<float> v(size_t(s.elements()));
      for (float& one : v) one = random.normal();
      return Tensor::from(v, s, device);
    };
    const BatchNormParams params{.activation = Activation::relu};
    const Tensor x = fresh(shape), gamma = fresh(channels), beta = fresh(channels), extra = fresh(shape),
                 dy = fresh(shape);
    const auto results = [&](bool sync) {
      const Variable vx(x, true), vg(gamma, true), vb(beta, true), vr(extra, true);
      Tensor mean = Tensor::zeros(channels, DType::f32, device), var = mean.clone();
      const Variable y = sync ? sync_batch_norm_train(vx, vg, vb, vr, mean, var, params, alone)
                              : batch_norm_train(vx, vg, vb, vr, mean, var, params);
      backward(y, dy);
      std::vector<std::vector<float>> all;
      for (const Tensor& t : {y.value(), mean, var, vx.grad(), vg.grad(), vb.grad(), vr.grad()})
        all.push_back(t.to_vector<float>());
      return all;
    };
    const auto expected = results(false), got = results(true);
    for (size_t i = 0; i < expected.size(); ++i)
      for (size_t j = 0; j < expected[i].size(); ++j)
        ASSERT_NEAR(got[i][j], expected[i][j], 2e-6f * (1 + std::fabs(expected[i][j])))
            << name(device) << ", result " << i;
  }
}

}  // namespace
}  // namespace plume::test
