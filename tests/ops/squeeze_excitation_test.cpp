#include "engine/ops/squeeze_excitation.h"

#include <gtest/gtest.h>

#include "tests/ops/reference/elementwise.h"
#include "tests/support/check_op.h"

namespace plume::test {
namespace {

constexpr SqueezeExcitationParams kMobileNet{Activation::relu, Activation::hardsigmoid};
constexpr SqueezeExcitationParams kEfficientNet{Activation::silu, Activation::sigmoid};

// out[n, i] = bias[i] + sum over j of w[i, j] in[n, j]
void products(const Array& in, const Array& w, const Array& bias, Array& out) {
  for (int64_t n = 0; n < out.dim(0); ++n)
    for (int64_t i = 0; i < out.dim(1); ++i) {
      Sum sum;
      for (int64_t j = 0; j < in.dim(1); ++j) sum += in.at(n, j) * w.at(i, j);
      sum += bias[i];
      out.at(n, i) = sum;
    }
}

void forward(const SqueezeExcitationParams& params, Arrays& a) {
  const Array& x = a["x"];
  const int64_t plane = x.dim(1) * x.dim(2);
  for (int64_t n = 0; n < x.dim(0); ++n)
    for (int64_t c = 0; c < x.dim(3); ++c) {
      Sum sum;
      for (int64_t i = 0; i < plane; ++i) sum += x.at(n * plane + i, c);
      a["pooled"].at(n, c) = Real(sum) / double(plane);
    }
  products(a["pooled"], a["w1"], a["b1"], a["z1"]);
  Array hidden = a["z1"];
  for (Real& v : hidden.values) v = reference::activate(params.inner, v);
  products(hidden, a["w2"], a["b2"], a["z2"]);
  for (int64_t i = 0; i < x.size(); ++i) {
    const int64_t n = i / (plane * x.dim(3)), c = i % x.dim(3);
    a["y"][i] = x[i] * reference::activate(params.gate, a["z2"].at(n, c));
  }
}

void backward(const SqueezeExcitationParams& params, Arrays& a) {
  const Array &x = a["x"], &dy = a["dy"], &w1 = a["w1"], &w2 = a["w2"];
  const int64_t images = x.dim(0), plane = x.dim(1) * x.dim(2), channels = x.dim(3), hidden = w1.dim(0);
  Array dz2({images, channels}), dz1({images, hidden}), h({images, hidden});
  for (int64_t n = 0; n < images; ++n) {
    for (int64_t c = 0; c < channels; ++c) {
      Sum sum;
      for (int64_t i = 0; i < plane; ++i) sum += x.at(n * plane + i, c) * dy.at(n * plane + i, c);
      dz2.at(n, c) = Real(sum) * reference::slope(params.gate, a["z2"].at(n, c));
    }
    for (int64_t q = 0; q < hidden; ++q) {
      Sum sum;
      for (int64_t c = 0; c < channels; ++c) sum += dz2.at(n, c) * w2.at(c, q);
      dz1.at(n, q) = Real(sum) * reference::slope(params.inner, a["z1"].at(n, q));
      h.at(n, q) = reference::activate(params.inner, a["z1"].at(n, q));
    }
    for (int64_t c = 0; c < channels; ++c) {
      Sum sum;
      for (int64_t q = 0; q < hidden; ++q) sum += dz1.at(n, q) * w1.at(q, c);
      const Real shift = Real(sum) / double(plane), gate = reference::activate(params.gate, a["z2"].at(n, c));
      for (int64_t i = 0; i < plane; ++i)
        a["dx"].at(n * plane + i, c) = dy.at(n * plane + i, c) * gate + shift;
    }
  }
  const auto weights = [&](const Array& left, const Array& right, Array& dw, Array& db) {
    for (int64_t i = 0; i < dw.dim(0); ++i) {
      Sum plain;
      for (int64_t n = 0; n < images; ++n) plain += left.at(n, i);
      db[i] = plain;
      for (int64_t j = 0; j < dw.dim(1); ++j) {
        Sum sum;
        for (int64_t n = 0; n < images; ++n) sum += left.at(n, i) * right.at(n, j);
        dw.at(i, j) = sum;
      }
    }
  };
  weights(dz2, h, a["dw2"], a["db2"]);
  weights(dz1, a["pooled"], a["dw1"], a["db1"]);
}

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
                  .reference = [params](Arrays& a) { forward(params, a); }});
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
                  .reference = [params](Arrays& a) { backward(params, a); }});
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
              .reference = [params](Arrays& a) { forward(params, a); },
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
