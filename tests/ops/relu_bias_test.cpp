#include "engine/ops/relu_bias.h"

#include <gtest/gtest.h>

#include "engine/ops/conv2d.h"
#include "tests/ops/reference/convolution.h"
#include "tests/support/check_op.h"

namespace plume::test {
namespace {

// Channels for whole packs, for packs of the whole but not of its parts, and for none.
void check_relu_bias(const Shape& image, int64_t own, int64_t others, bool joined) {
  const Shape y = image.with(-1, own + others);
  std::vector<Operand> inputs{{"y", y}, {"dy", y}};
  if (joined) inputs.push_back({"more", y});
  std::vector<Operand> outputs{{"dz", y.with(-1, own)}, {"dbias", {own}, outliers(), DType::f32}};
  if (others > 0) {
    outputs.push_back({"dz2", y.with(-1, others)});
    outputs.push_back({"dbias2", {others}, outliers(), DType::f32});
  }
  check_op({.slot = relu_bias_backward,
            .label = message("{} + {} channels{}", own, others, joined ? ", joined" : ""),
            .inputs = inputs,
            .outputs = outputs,
            .run =
                [](Context& c, Tensors& t) {
                  relu_bias_backward(c, t["y"], t["dy"], t["more"], t["dz"], t["dbias"], t["dz2"],
                                     t["dbias2"]);
                },
            .reference =
                [own](Arrays& a) {
                  const Array& values = a["y"];
                  for (int64_t c = 0; c < values.dim(-1); ++c) {
                    Sum sum;
                    const bool first = c < own;
                    for (int64_t row = 0; row < values.rows(); ++row) {
                      Real gradient = a["dy"].at(row, c);
                      if (a["more"].defined()) gradient = gradient + a["more"].at(row, c);
                      if (!(values.at(row, c).value > 0)) gradient = 0;
                      (first ? a["dz"] : a["dz2"]).at(row, first ? c : c - own) = gradient;
                      sum += gradient;
                    }
                    (first ? a["dbias"] : a["dbias2"])[first ? c : c - own] = sum;
                  }
                }});
}

TEST(ReluBiasTest, Backward) {
  for (const bool joined : {false, true}) {
    for (const int64_t channels : {1, 3, 17, 64}) check_relu_bias({3, 7, 7, 1}, channels, 0, joined);
    check_relu_bias({2, 31, 31, 1}, 64, 64, joined);
    check_relu_bias({2, 7, 7, 1}, 12, 20, joined);
    check_relu_bias({2, 7, 7, 1}, 8, 3, joined);
    check_relu_bias({2, 7, 7, 1}, 1, 7, joined);
  }
}

TEST(ReluBiasTest, OfAConvolution) {
  check_op(
      {.slot = conv2d_forward,
       .label = "relu",
       .inputs = {{"x", {2, 5, 4, 3}}, {"w", {6, 3, 3, 3}}, {"bias", {6}, short_values(), DType::f32}},
       .outputs = {{"y", {2, 5, 4, 6}}},
       .run =
           [](Context& c, Tensors& t) {
             const Epilogue epilogue{.shift = t["bias"], .activation = Activation::relu};
             conv2d_forward(c, t["x"], t["w"], {.padding = 1}, epilogue, t["y"]);
           },
       .reference =
           [](Arrays& a) {
             reference::conv2d(a["x"], a["w"], {.padding = 1}, {a[""], a["bias"], a[""], Activation::relu},
                               a["y"]);
           },
       .op = [](Variables& v) { return conv2d(v["x"], v["w"], v["bias"], {.padding = 1}, Activation::relu); },
       .coarse = {{"winograd_4x4", 1e-5}}});
}

}  // namespace
}  // namespace plume::test
