#include "engine/ops/linear.h"

#include <gtest/gtest.h>

#include "tests/ops/reference/convolution.h"
#include "tests/support/check_op.h"

namespace plume::test {
namespace {

struct LinearCase {
  int64_t samples, inputs, outputs;
  Shape x() const { return {samples, inputs}; }
  Shape w() const { return {outputs, inputs}; }
  Shape y() const { return {samples, outputs}; }
};
// cuBLASLt takes a bias in the output's type: short_values(), which are the same in every type.
constexpr LinearCase kLinearCases[] = {
    {1, 1, 1},    {3, 1, 17},    {1, 64, 3},   {3, 17, 64},    {31, 3, 1},   {64, 64, 10}, {7, 129, 31},
    {65, 33, 67}, {1, 512, 100}, {3, 1000, 7}, {40, 264, 136}, {130, 72, 8}, {2, 8, 200},  {2, 2104, 16}};

TEST(LinearTest, ForwardWithAndWithoutBias) {
  for (const LinearCase& c : kLinearCases)
    for (const bool bias : {false, true}) {
      std::vector<Operand> inputs{{"x", c.x()}, {"w", c.w()}};
      if (bias) inputs.push_back({"bias", {c.outputs}, short_values(), DType::f32});
      check_op(
          {.slot = linear_forward,
           .inputs = inputs,
           .outputs = {{"y", c.y()}},
           .run = [](Context& context,
                     Tensors& t) { linear_forward(context, t["x"], t["w"], {.shift = t["bias"]}, t["y"]); },
           .reference =
               [](Arrays& a) {
                 reference::linear(a["x"], a["w"], {a[""], a["bias"], a[""]}, a["y"]);
               },
           .op = [](Variables& v) { return linear(v["x"], v["w"], v["bias"]); }});
    }
}

TEST(LinearTest, Epilogue) {
  for (const LinearCase& c : kLinearCases)
    for (const auto& [activation, last] : {std::pair{Activation::identity, false},
                                           {Activation::relu, false},
                                           {Activation::relu, true},
                                           {Activation::hardswish, true}})
      check_op({.slot = linear_forward,
                .label = message("scale, shift, residual{}, {}", last ? " last" : "", name(activation)),
                .inputs = {{"x", c.x()},
                           {"w", c.w()},
                           {"scale", {c.outputs}, outliers(), DType::f32},
                           {"shift", {c.outputs}, outliers(), DType::f32},
                           {"residual", c.y()}},
                .outputs = {{"y", c.y()}},
                .run =
                    [=, activation = activation, last = last](Context& context, Tensors& t) {
                      const Epilogue epilogue{t["scale"], t["shift"], t["residual"], activation, last};
                      linear_forward(context, t["x"], t["w"], epilogue, t["y"]);
                    },
                .reference =
                    [=, activation = activation, last = last](Arrays& a) {
                      const reference::EpilogueArrays epilogue{a["scale"], a["shift"], a["residual"],
                                                               activation, last};
                      reference::linear(a["x"], a["w"], epilogue, a["y"]);
                    }});
}

TEST(LinearTest, BackwardInput) {
  for (const LinearCase& c : kLinearCases)
    check_op({.slot = linear_backward_input,
              .inputs = {{"dy", c.y()}, {"w", c.w()}},
              .outputs = {{"dx", c.x()}},
              .run = [](Context& context,
                        Tensors& t) { linear_backward_input(context, t["dy"], t["w"], t["dx"]); },
              .reference = [](Arrays& a) { reference::linear_backward_input(a["dy"], a["w"], a["dx"]); }});
}

void check_backward_weight(const LinearCase& c, std::optional<DType> result, std::vector<DType> dtypes) {
  check_op(
      {.slot = linear_backward_weight,
       .inputs = {{"x", c.x()}, {"dy", c.y()}},
       .outputs = {{"dw", c.w(), outliers(), result}},
       .run = [](Context& context, Tensors& t) { linear_backward_weight(context, t["x"], t["dy"], t["dw"]); },
       .reference = [](Arrays& a) { reference::linear_backward_weight(a["x"], a["dy"], a["dw"]); },
       .dtypes = std::move(dtypes)});
}

TEST(LinearTest, BackwardWeight) {
  for (const LinearCase& c : kLinearCases) {
    check_backward_weight(c, {}, {DType::f32, DType::bf16, DType::f16});
    check_backward_weight(c, DType::f32, {DType::bf16, DType::f16});
  }
}

TEST(LinearTest, RefusesUnlikeOperands) {
  EXPECT_THROW(linear(Tensor::zeros({2, 3}, DType::f32, Device::cpu),
                      Tensor::zeros({5, 4}, DType::f32, Device::cpu), {}),
               Error);
}

}  // namespace
}  // namespace plume::test
