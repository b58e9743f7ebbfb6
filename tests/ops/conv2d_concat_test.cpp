#include "engine/ops/conv2d_concat.h"

#include <gtest/gtest.h>

#include "tests/ops/reference/convolution.h"
#include "tests/support/check_op.h"

namespace plume::test {
namespace {

struct ConcatCase {
  Shape x0;
  int64_t channels1, first, second;
};

// Whole chunks and not, borders of both kinds within tiles and between, ragged rows, more tiles than blocks.
const std::vector<ConcatCase> kConcatCases = {
    {{1, 1, 1, 1}, 1, 1, 1},       {{2, 3, 5, 3}, 17, 5, 2},          {{2, 5, 7, 8}, 8, 8, 16},
    {{1, 9, 15, 24}, 64, 64, 64},  {{2, 12, 11, 120}, 120, 120, 120}, {{1, 7, 7, 232}, 232, 232, 232},
    {{1, 190, 190, 8}, 16, 8, 24}, {{1, 9, 9, 72}, 8, 40, 88},        {{3, 7, 7, 16}, 58, 8, 8}};

OpCase concat_case(const ConcatCase& c) {
  return {.slot = conv2d_concat_forward,
          .inputs = {{"x0", c.x0},
                     {"x1", c.x0.with(-1, c.channels1)},
                     {"w", {c.first + c.second, 1, 1, c.x0[3] + c.channels1}},
                     {"shift", {c.first + c.second}, short_values(), DType::f32}},
          .outputs = {{"y0", c.x0.with(-1, c.first)}, {"y1", c.x0.with(-1, c.second)}},
          .run =
              [](Context& context, Tensors& t) {
                const Epilogue epilogue{.shift = t["shift"], .activation = Activation::relu};
                conv2d_concat_forward(context, t["x0"], t["x1"], t["w"], nullptr, epilogue, t["y0"], t["y1"]);
              },
          .reference =
              [c](Arrays& a) {
                const Array none;
                const int64_t channels = c.x0[3] + c.channels1;
                Array x(c.x0.with(-1, channels)), y(c.x0.with(-1, c.first + c.second));
                for (int64_t row = 0; row < x.rows(); ++row)
                  for (int64_t i = 0; i < channels; ++i)
                    x.at(row, i) = i < c.x0[3] ? a["x0"].at(row, i) : a["x1"].at(row, i - c.x0[3]);
                reference::conv2d(x, a["w"], {}, {none, a["shift"], none, Activation::relu}, y);
                for (int64_t row = 0; row < y.rows(); ++row)
                  for (int64_t k = 0; k < c.first + c.second; ++k)
                    (k < c.first ? a["y0"].at(row, k) : a["y1"].at(row, k - c.first)) = y.at(row, k);
              },
          .coarse = {{"separate", 1e-5}}};  // another library may be inside
}

TEST(Conv2dConcatTest, Forward) {
  for (const ConcatCase& c : kConcatCases) check_op(concat_case(c));
}

TEST(Conv2dConcatTest, RefusesWhatDoesNotFit) {
  const auto zeros = [](const Shape& shape) { return Tensor::zeros(shape, DType::f32, Device::cpu); };
  const auto apply = [&](const Shape& x1, const Shape& w, int64_t first) {
    return conv2d_concat(zeros({1, 4, 4, 4}), zeros(x1), zeros(w), nullptr, {}, first).second;
  };
  EXPECT_EQ(apply({1, 4, 4, 3}, {5, 1, 1, 7}, 2).shape(), (Shape{1, 4, 4, 3}));
  EXPECT_THROW(apply({1, 3, 4, 3}, {5, 1, 1, 7}, 2), Error);
  EXPECT_THROW(apply({1, 4, 4, 3}, {5, 1, 1, 8}, 2), Error);
  EXPECT_THROW(apply({1, 4, 4, 3}, {5, 1, 1, 7}, 5), Error);
}

}  // namespace
}  // namespace plume::test
