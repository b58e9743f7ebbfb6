#include "engine/ops/fire.h"

#include <gtest/gtest.h>

#include "tests/ops/reference/convolution.h"
#include "tests/support/check_op.h"

namespace plume::test {
namespace {

struct FireCase {
  Shape x;
  int64_t one, three;  // filters
};

// Channels for whole packs and not, filters in several tiles, pixels over several blocks.
const std::vector<FireCase> kCases = {
    {{1, 1, 1, 1}, 1, 1},    {{3, 7, 7, 3}, 17, 5},   {{1, 31, 7, 17}, 64, 64}, {{3, 7, 31, 16}, 64, 72},
    {{1, 7, 7, 40}, 130, 3}, {{1, 7, 7, 48}, 130, 3}, {{4, 9, 9, 64}, 24, 60}};

void reference_fire(Arrays& a) {
  const Array none;
  const int64_t one = a["w1"].dim(0), three = a["w3"].dim(0);
  const Array &x = a["x"], &y = a["y"];
  Array y1(Shape{x.dim(0), x.dim(1), x.dim(2), one}), y3(Shape{x.dim(0), x.dim(1), x.dim(2), three});
  reference::conv2d(x, a["w1"], {}, {none, a["b1"], none, Activation::relu}, y1);
  reference::conv2d(x, a["w3"], {.padding = 1}, {none, a["b3"], none, Activation::relu}, y3);
  for (int64_t row = 0; row < y.rows(); ++row)
    for (int64_t k = 0; k < one + three; ++k)
      a["y"].at(row, k) = k < one ? y1.at(row, k) : y3.at(row, k - one);
}

OpCase fire_case(const FireCase& c, Fill fill, bool packed) {
  const int64_t channels = c.x[3];
  return {.slot = fire_expand_forward,
          .label = packed ? "constant filters" : "",
          .inputs = {{"x", c.x, fill},
                     {"w1", {c.one, 1, 1, channels}, fill},
                     {"b1", {c.one}, short_values(fill), DType::f32},
                     {"w3", {c.three, 3, 3, channels}, fill},
                     {"b3", {c.three}, short_values(fill), DType::f32}},
          .outputs = {{"y", c.x.with(-1, c.one + c.three)}},
          .run =
              [packed](Context& context, Tensors& t) {
                PackedFilter one, three;
                for (int turn = 0; turn < (packed ? 2 : 1); ++turn)
                  fire_expand_forward(context, t["x"], t["w1"], t["b1"], t["w3"], t["b3"],
                                      packed ? &one : nullptr, packed ? &three : nullptr, t["y"]);
              },
          .reference = reference_fire,
          .coarse = {{"separate", 1e-5}, {"constant_in_place", 1e-5}}};  // Winograd may be inside
}

TEST(FireTest, Forward) {
  for (const FireCase& c : kCases)
    for (const bool packed : {false, true}) check_op(fire_case(c, outliers(), packed));
}

TEST(FireTest, Gradients) {
  OpCase c = fire_case({{2, 5, 3, 4}, 3, 5}, positive(-1, 1), false);
  c.op = [](Variables& v) { return fire_expand(v["x"], v["w1"], v["b1"], v["w3"], v["b3"]); };
  check_op(c);
}

TEST(FireTest, RefusesWhatDoesNotFit) {
  const auto zeros = [](const Shape& shape) {
    return Variable(Tensor::zeros(shape, DType::f32, Device::cpu));
  };
  const auto apply = [&](const Shape& w1, const Shape& w3) {
    return fire_expand(zeros({1, 5, 5, 4}), zeros(w1), zeros({w1[0]}), zeros(w3), zeros({w3[0]}));
  };
  EXPECT_EQ(apply({2, 1, 1, 4}, {3, 3, 3, 4}).shape(), (Shape{1, 5, 5, 5}));
  EXPECT_THROW(apply({2, 1, 1, 3}, {3, 3, 3, 4}), Error);
  EXPECT_THROW(apply({2, 3, 3, 4}, {3, 3, 3, 4}), Error);
}

}  // namespace
}  // namespace plume::test
