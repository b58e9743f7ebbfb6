#include "engine/ops/concat.h"

#include <gtest/gtest.h>

#include "engine/autograd/tape.h"
#include "engine/ops/relu.h"
#include "tests/support/check_op.h"

namespace plume::test {
namespace {

void join(const Array& a, const Array& b, Array& y) {
  for (int64_t row = 0; row < y.rows(); ++row)
    for (int64_t c = 0; c < y.dim(-1); ++c)
      y.at(row, c) = c < a.dim(-1) ? a.at(row, c) : b.at(row, c - a.dim(-1));
}
void split(const Array& y, Array& a, Array& b) {
  for (int64_t row = 0; row < y.rows(); ++row)
    for (int64_t c = 0; c < y.dim(-1); ++c)
      (c < a.dim(-1) ? a.at(row, c) : b.at(row, c - a.dim(-1))) = y.at(row, c);
}

TEST(ConcatTest, ForwardAndBackward) {
  for (const Shape& shape : odd_images())
    for (const int64_t more : {1, 8, 24}) {
      const Shape other = shape.with(-1, more), whole = shape.with(-1, shape[3] + more);
      check_op({.slot = concat_forward,
                .inputs = {{"a", shape}, {"b", other}},
                .outputs = {{"y", whole}},
                .run = [](Context& c, Tensors& t) { concat_forward(c, t["a"], t["b"], t["y"]); },
                .reference = [](Arrays& a) { join(a["a"], a["b"], a["y"]); },
                .op = [](Variables& v) { return concat(v["a"], v["b"]); }});
      check_op({.slot = concat_backward,
                .inputs = {{"dy", whole}},
                .outputs = {{"da", shape}, {"db", other}},
                .run = [](Context& c, Tensors& t) { concat_backward(c, t["dy"], t["da"], t["db"]); },
                .reference = [](Arrays& a) { split(a["dy"], a["da"], a["db"]); }});
    }
}

TEST(ConcatTest, RefusesWhatDoesNotFit) {
  const auto zeros = [](const Shape& shape) {
    return Variable(Tensor::zeros(shape, DType::f32, Device::cpu));
  };
  EXPECT_THROW(concat(zeros({1, 2, 3}), zeros({1, 3, 3})), Error);
  EXPECT_THROW(concat(zeros({2, 3}), zeros({1, 2, 3})), Error);
  EXPECT_THROW(channel_split(zeros({2, 3})), Error);
}

TEST(ChannelSplitTest, HalvesAndTheirGradients) {
  for (const Device device : devices_under_test()) {
    const Variable x(Tensor::from(std::vector<float>{1, 2, 3, 4, 5, 6, 7, 8}, {2, 4}, device), true);
    const auto [first, second] = channel_split(x);
    EXPECT_EQ(first.value().to_vector<float>(), (std::vector<float>{1, 2, 5, 6}));
    EXPECT_EQ(second.value().to_vector<float>(), (std::vector<float>{3, 4, 7, 8}));
    backward(concat(second, relu(first)),
             Tensor::from(std::vector<float>{1, 2, 3, 4, 5, 6, 7, 8}, {2, 4}, device));
    EXPECT_EQ(x.grad().to_vector<float>(), (std::vector<float>{3, 4, 1, 2, 7, 8, 5, 6}));
  }
}

TEST(ChannelSplitTest, AHalfNobodyUsesHasNoGradient) {
  for (const Device device : devices_under_test()) {
    const Variable x(Tensor::from(std::vector<float>{1, 2, 3, 4}, {1, 4}, device), true);
    const auto halves = channel_split(x);
    backward(halves.second, Tensor::from(std::vector<float>{8, 9}, {1, 2}, device));
    EXPECT_EQ(x.grad().to_vector<float>(), (std::vector<float>{0, 0, 8, 9}));
  }
}

}  // namespace
}  // namespace plume::test
