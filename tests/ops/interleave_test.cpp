#include "engine/ops/interleave.h"

#include <gtest/gtest.h>

#include "engine/autograd/tape.h"
#include "engine/ops/add.h"
#include "tests/support/check_op.h"

namespace plume::test {
namespace {

Shape doubled(const Shape& shape) { return shape.with(-1, 2 * shape[-1]); }
// Channel c of the output, in y0 or in y1.
Real& channel(Array& y0, Array& y1, int64_t row, int64_t c) {
  const int64_t width = y0.dim(-1);
  return c < width ? y0.at(row, c) : y1.at(row, c - width);
}

// ShuffleNetV2's 116 channels are a multiple of four and not of eight, its 58 only of two.
std::vector<Shape> shapes_of_interleave() {
  std::vector<Shape> shapes = odd_images();
  shapes.push_back({2, 5, 5, 58});
  shapes.push_back({2, 5, 5, 116});
  return shapes;
}

TEST(InterleaveTest, ForwardAndBackward) {
  for (const Shape& shape : shapes_of_interleave()) {
    check_op({.slot = interleave_forward,
              .inputs = {{"a", shape}, {"b", shape}},
              .outputs = {{"y", doubled(shape)}},
              .run = [](Context& c, Tensors& t) { interleave_forward(c, t["a"], t["b"], t["y"], t["none"]); },
              .reference =
                  [](Arrays& a) {
                    for (int64_t i = 0; i < a["a"].size(); ++i)
                      a["y"][2 * i] = a["a"][i], a["y"][2 * i + 1] = a["b"][i];
                  },
              .op = [](Variables& v) { return interleave(v["a"], v["b"]); }});
    for (const bool joins : {false, true}) {
      OpCase backward{
          .slot = interleave_backward,
          .label = joins ? "two gradients" : "",
          .inputs = {{"dy", doubled(shape)}},
          .outputs = {{"da", shape}, {"db", shape}},
          .run = [](Context& c,
                    Tensors& t) { interleave_backward(c, t["dy"], t["none"], t["more"], t["da"], t["db"]); },
          .reference =
              [joins](Arrays& a) {
                const auto dy = [&](int64_t i) { return joins ? a["dy"][i] + a["more"][i] : a["dy"][i]; };
                for (int64_t i = 0; i < a["da"].size(); ++i)
                  a["da"][i] = dy(2 * i), a["db"][i] = dy(2 * i + 1);
              }};
      if (joins) backward.inputs.push_back({"more", doubled(shape)});
      check_op(backward);
    }
  }
}

TEST(InterleaveTest, SplitForwardAndBackward) {
  for (const Shape& shape : shapes_of_interleave()) {
    check_op({.slot = interleave_forward,
              .label = "split",
              .inputs = {{"a", shape}, {"b", shape}},
              .outputs = {{"y0", shape}, {"y1", shape}},
              .run = [](Context& c, Tensors& t) { interleave_forward(c, t["a"], t["b"], t["y0"], t["y1"]); },
              .reference =
                  [](Arrays& a) {
                    for (int64_t row = 0; row < a["a"].rows(); ++row)
                      for (int64_t c = 0; c < a["a"].dim(-1); ++c) {
                        channel(a["y0"], a["y1"], row, 2 * c) = a["a"].at(row, c);
                        channel(a["y0"], a["y1"], row, 2 * c + 1) = a["b"].at(row, c);
                      }
                  }});
    check_op(
        {.slot = interleave_backward,
         .label = "split",
         .inputs = {{"dy0", shape}, {"dy1", shape}},
         .outputs = {{"da", shape}, {"db", shape}},
         .run = [](Context& c,
                   Tensors& t) { interleave_backward(c, t["dy0"], t["dy1"], t["none"], t["da"], t["db"]); },
         .reference =
             [](Arrays& a) {
               for (int64_t row = 0; row < a["da"].rows(); ++row)
                 for (int64_t c = 0; c < a["da"].dim(-1); ++c) {
                   a["da"].at(row, c) = channel(a["dy0"], a["dy1"], row, 2 * c);
                   a["db"].at(row, c) = channel(a["dy0"], a["dy1"], row, 2 * c + 1);
                 }
             }});
  }
}

// Both halves are used, one of them twice.
TEST(InterleaveTest, SplitGradients) {
  for (const Device device : devices_under_test()) {
    const Variable a(Tensor::from(std::vector<float>{1, 2, 3}, {1, 3}, device), true);
    const Variable b(Tensor::from(std::vector<float>{4, 5, 6}, {1, 3}, device), true);
    const auto [first, second] = interleave_split(a, b);
    EXPECT_EQ(first.value().to_vector<float>(), (std::vector<float>{1, 4, 2}));
    EXPECT_EQ(second.value().to_vector<float>(), (std::vector<float>{5, 3, 6}));
    backward(add(add(first, second), first), Tensor::from(std::vector<float>{1, 10, 100}, {1, 3}, device));
    EXPECT_EQ(a.grad().to_vector<float>(), (std::vector<float>{2, 200, 10}));
    EXPECT_EQ(b.grad().to_vector<float>(), (std::vector<float>{20, 1, 100}));
  }
}

// Where two operations read the output, its own rule adds their gradients.
TEST(InterleaveTest, JoinsGradients) {
  for (const Device device : devices_under_test()) {
    const Variable a(Tensor::from(std::vector<float>{1, 2}, {1, 2}, device), true);
    const Variable b(Tensor::from(std::vector<float>{3, 4}, {1, 2}, device), true);
    const Variable y = interleave(a, b);
    backward(add(add(y, y), y), Tensor::from(std::vector<float>{1, 10, 100, 1000}, {1, 4}, device));
    EXPECT_EQ(a.grad().to_vector<float>(), (std::vector<float>{3, 300}));
    EXPECT_EQ(b.grad().to_vector<float>(), (std::vector<float>{30, 3000}));
  }
}

TEST(InterleaveTest, RefusesDifferentShapes) {
  const auto zeros = [](const Shape& shape) {
    return Variable(Tensor::zeros(shape, DType::f32, Device::cpu));
  };
  EXPECT_THROW(interleave(zeros({1, 2}), zeros({1, 3})), Error);
  EXPECT_THROW(interleave_split(zeros({1, 2}), zeros({2, 2})), Error);
}

}  // namespace
}  // namespace plume::test
