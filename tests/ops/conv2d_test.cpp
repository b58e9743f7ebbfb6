#include "engine/ops/conv2d.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/autograd/tape.h"
#include "engine/ops/cast.h"
#include "tests/ops/convolution_cases.h"
#include "tests/ops/reference/convolution.h"
#include "tests/support/check_op.h"

namespace plume::test {
namespace {

// cuDNN takes shift and bias in the images' type: short_values(), which are the same in every type.
TEST(Conv2dTest, ForwardWithAndWithoutBias) {
  for (const ConvCase& c : conv2d_cases())
    for (const bool bias : {false, true}) {
      const Conv2dParams p = c.params;
      std::vector<Operand> inputs{{"x", c.x}, {"w", c.w()}};
      if (bias) inputs.push_back({"bias", {c.filters}, short_values(), DType::f32});
      check_op({.slot = conv2d_forward,
                .label = c.label(),
                .inputs = inputs,
                .outputs = {{"y", c.y()}},
                .run =
                    [p](Context& context, Tensors& t) {
                      conv2d_forward(context, t["x"], t["w"], p, {.shift = t["bias"]}, t["y"]);
                    },
                .reference =
                    [p](Arrays& a) {
                      reference::conv2d(a["x"], a["w"], p, {a[""], a["bias"], a[""]}, a["y"]);
                    },
                .op = [p](Variables& v) { return conv2d(v["x"], v["w"], v["bias"], p); }});
    }
}

TEST(Conv2dTest, Epilogue) {
  for (const ConvCase& c : conv2d_cases()) {
    const Conv2dParams p = c.params;
    const Shape channels{c.filters};
    check_op({.slot = conv2d_forward,
              .label = c.label() + ", scale, shift, residual, relu",
              .inputs = {{"x", c.x},
                         {"w", c.w()},
                         {"scale", channels, outliers(), DType::f32},
                         {"shift", channels, short_values(), DType::f32},
                         {"residual", c.y()}},
              .outputs = {{"y", c.y()}},
              .run =
                  [p](Context& context, Tensors& t) {
                    const Epilogue epilogue{t["scale"], t["shift"], t["residual"], Activation::relu};
                    conv2d_forward(context, t["x"], t["w"], p, epilogue, t["y"]);
                  },
              .reference =
                  [p](Arrays& a) {
                    const reference::EpilogueArrays epilogue{a["scale"], a["shift"], a["residual"],
                                                             Activation::relu};
                    reference::conv2d(a["x"], a["w"], p, epilogue, a["y"]);
                  }});
  }
}

// Each part of the epilogue alone, and the pairs that networks use.
TEST(Conv2dTest, PartsOfTheEpilogue) {
  const ConvCase c{{3, 7, 7, 17}, 17, 3, 3, {1, 1, 1}};
  const std::vector<std::vector<const char*>> parts{{},           {"scale"},          {"shift"},
                                                    {"residual"}, {"scale", "shift"}, {"shift", "residual"}};
  for (const Activation activation : {Activation::identity, Activation::relu})
    for (const auto& names : parts) {
      std::vector<Operand> inputs{{"x", c.x}, {"w", c.w()}};
      std::string label = name(activation);
      for (const char* part : names) {
        label += std::string(" ") + part;
        if (std::string_view(part) == "residual")
          inputs.push_back({part, c.y()});
        else
          inputs.push_back({part, {c.filters}, short_values(), DType::f32});
      }
      const Conv2dParams p = c.params;
      check_op(
          {.slot = conv2d_forward,
           .label = label,
           .inputs = inputs,
           .outputs = {{"y", c.y()}},
           .run =
               [=](Context& context, Tensors& t) {
                 const Epilogue epilogue{t["scale"], t["shift"], t["residual"], activation};
                 conv2d_forward(context, t["x"], t["w"], p, epilogue, t["y"]);
               },
           .reference =
               [=](Arrays& a) {
                 const reference::EpilogueArrays epilogue{a["scale"], a["shift"], a["residual"], activation};
                 reference::conv2d(a["x"], a["w"], p, epilogue, a["y"]);
               }});
    }
}

// Every variant's ways through the epilogue: chunks of channels and not, wide and narrow tiles, a depth in
// slices, strips, windows, first layers, 1x1 filters, and constant filters, which the cpu device packs. The
// residual is absent, before the activation, or behind it.
TEST(Conv2dTest, ActivationsAndResiduals) {
  const ConvCase cases[] = {
      {{3, 7, 7, 17}, 17, 3, 3, {1, 1, 1}},   {{2, 9, 8, 24}, 24, 3, 3, {1, 1, 1}},
      {{1, 24, 24, 32}, 40, 3, 3, {1, 1, 1}}, {{4, 8, 8, 16}, 136, 1, 1, {}},
      {{1, 5, 5, 264}, 24, 1, 1, {}},         {{1, 14, 10, 4}, 16, 3, 3, {2, 1, 1}},
      {{2, 6, 6, 12}, 20, 1, 1, {}},          {{2, 12, 33, 3}, 32, 3, 3, {1, 1, 1}},
      {{2, 13, 37, 3}, 24, 3, 3, {2, 1, 1}},  {{1, 9, 20, 1}, 16, 5, 3, {1, 2, 1}},
      {{1, 21, 9, 1}, 8, 4, 4, {2, 0, 1}},
  };
  for (const ConvCase& c : cases)
    for (const Activation activation : reference::kActivations) {
      // Of the largest output, which says little about the sums where it is never more than 1.
      const bool squashes = activation == Activation::sigmoid || activation == Activation::hardsigmoid;
      for (const std::string where : {"no residual", "a residual", "a residual behind it"}) {
        const bool curved = activation == Activation::silu || activation == Activation::hardswish;
        if (where == "a residual" && !curved) continue;  // PartsOfTheEpilogue has the others
        std::vector<Operand> inputs{
            {"x", c.x}, {"w", c.w()}, {"shift", {c.filters}, short_values(), DType::f32}};
        if (where != "no residual") inputs.push_back({"residual", c.y()});
        const bool behind = where == "a residual behind it";
        check_op({.slot = conv2d_forward,
                  .label = c.label() + ", shift, " + name(activation) + ", " + where,
                  .inputs = inputs,
                  .outputs = {{"y", c.y()}},
                  .run =
                      [=](Context& context, Tensors& t) {
                        PackedFilter packed;
                        Conv2dParams params = c.params;
                        params.packed = &packed;
                        const Epilogue epilogue{{}, t["shift"], t["residual"], activation, behind};
                        conv2d_forward(context, t["x"], t["w"], params, epilogue, t["y"]);
                      },
                  .reference =
                      [=](Arrays& a) {
                        const reference::EpilogueArrays epilogue{a[""], a["shift"], a["residual"], activation,
                                                                 behind};
                        reference::conv2d(a["x"], a["w"], c.params, epilogue, a["y"]);
                      },
                  .coarse = {{"winograd_4x4", squashes ? 1e-2 : 1e-5}}});
      }
    }
}

// A filter kept in a variant's own layout gives the same result, the first time and from the cache.
void check_constant_filter(const ConvCase& c, bool with_epilogue) {
  std::vector<Operand> inputs{{"x", c.x}, {"w", c.w()}};
  if (with_epilogue) {
    inputs.push_back({"scale", {c.filters}, outliers(), DType::f32});
    inputs.push_back({"shift", {c.filters}, short_values(), DType::f32});
    inputs.push_back({"residual", c.y()});
  }
  const Activation activation = with_epilogue ? Activation::relu : Activation::identity;
  check_op({.slot = conv2d_forward,
            .label = c.label() + ", constant filter" + (with_epilogue ? ", epilogue" : ""),
            .inputs = inputs,
            .outputs = {{"y", c.y()}},
            .run =
                [p = c.params, activation](Context& context, Tensors& t) {
                  PackedFilter packed;
                  Conv2dParams with_cache = p;
                  with_cache.packed = &packed;
                  const Epilogue epilogue{t["scale"], t["shift"], t["residual"], activation};
                  Tensor first = empty_like(t["y"]);
                  conv2d_forward(context, t["x"], t["w"], with_cache, epilogue, first);
                  conv2d_forward(context, t["x"], t["w"], with_cache, epilogue, t["y"]);
                },
            .reference =
                [p = c.params, activation](Arrays& a) {
                  const reference::EpilogueArrays epilogue{a["scale"], a["shift"], a["residual"], activation};
                  reference::conv2d(a["x"], a["w"], p, epilogue, a["y"]);
                },
            .coarse = {{"winograd_4x4", 1e-5}}});
}

TEST(Conv2dTest, ConstantFilter) {
  std::vector<ConvCase> all = conv2d_cases();
  if (devices_under_test() == std::vector{Device::simt}) {
    all.resize(12);  // its kernels keep no filters: these are the kernels of the tests above
  } else {
    // 3x3 with stride 1, tiles and channels enough for Winograd's algorithm: few tiles and many, vectors
    // that do not divide the channels, a last block of filters that fills half a vector, padding of all
    // three kinds
    all.push_back({{1, 31, 17, 56}, 24, 3, 3, {1, 1, 1}});
    all.push_back({{1, 13, 14, 128}, 27, 3, 3, {1, 1, 1}});
    all.push_back({{3, 18, 21, 27}, 57, 3, 3, {1, 0, 1}});
    all.push_back({{43, 2, 3, 24}, 25, 3, 3, {1, 2, 1}});
  }
  for (const ConvCase& c : all)
    for (const bool with_epilogue : {false, true}) check_constant_filter(c, with_epilogue);
}

void check_backward_input(const ConvCase& c, std::vector<DType> dtypes, const char* only = "") {
  check_op(
      {.slot = conv2d_backward_input,
       .label = c.label(),
       .inputs = {{"dy", c.y()}, {"w", c.w()}},
       .outputs = {{"dx", c.x}},
       .run = [p = c.params](Context& context,
                             Tensors& t) { conv2d_backward_input(context, t["dy"], t["w"], p, t["dx"]); },
       .reference =
           [p = c.params](Arrays& a) { reference::conv2d_backward_input(a["dy"], a["w"], p, a["dx"]); },
       .dtypes = std::move(dtypes),
       .only = only});
}

TEST(Conv2dTest, BackwardInput) {
  for (const ConvCase& c : conv2d_cases()) check_backward_input(c, {DType::f32, DType::bf16, DType::f16});
}

// Stride 2 with pixels enough for all residues in one launch: odd and even sizes, several taps in a step and
// several steps for a tap, residues that no tap reaches, tiles of 32, 64 and 128 columns and more of them.
TEST(Conv2dTest, BackwardInputOfAllResidues) {
  const ConvCase cases[] = {
      {{4, 81, 80, 16}, 24, 3, 3, {2, 1, 1}},   {{1, 134, 133, 40}, 72, 3, 3, {2, 1, 1}},
      {{1, 93, 131, 136}, 16, 1, 1, {2, 0, 1}}, {{1, 86, 95, 248}, 8, 3, 3, {2, 0, 1}},
      {{2, 131, 134, 8}, 8, 3, 4, {2, 2, 1}},   {{2, 131, 134, 24}, 8, 2, 1, {2, 1, 1}}};
  for (const ConvCase& c : cases) check_backward_input(c, {DType::bf16, DType::f16}, "tensor_core");
}

// Pixels enough for tall tiles, of whose 64 columns the last 16 are never used.
TEST(Conv2dTest, BackwardInputOf48Channels) {
  check_backward_input({{86, 28, 28, 40}, 32, 3, 3, {1, 1, 1}}, {DType::bf16}, "tensor_core");
}

void check_backward_weight(const ConvCase& c, std::optional<DType> result, std::vector<DType> dtypes) {
  check_op(
      {.slot = conv2d_backward_weight,
       .label = c.label(),
       .inputs = {{"x", c.x}, {"dy", c.y()}},
       .outputs = {{"dw", c.w(), outliers(), result}},
       .run = [p = c.params](Context& context,
                             Tensors& t) { conv2d_backward_weight(context, t["x"], t["dy"], p, t["dw"]); },
       .reference =
           [p = c.params](Arrays& a) { reference::conv2d_backward_weight(a["x"], a["dy"], p, a["dw"]); },
       .dtypes = std::move(dtypes)});
}

TEST(Conv2dTest, BackwardWeight) {
  for (const ConvCase& c : conv2d_cases())
    check_backward_weight(c, {}, {DType::f32, DType::bf16, DType::f16});
}

TEST(Conv2dTest, BackwardWeightInF32OfShortImages) {
  for (const ConvCase& c : conv2d_cases()) check_backward_weight(c, DType::f32, {DType::bf16, DType::f16});
}

// Of few pixels in one launch: tiles of rows and columns, slices of either depth, taps that no pixel reaches.
TEST(Conv2dTest, BothGradients) {
  std::vector<ConvCase> all = conv2d_cases();
  all.push_back({{2, 2, 2, 72}, 584, 1, 1, {1, 0, 1}});
  all.push_back({{2, 2, 3, 116}, 580, 1, 1, {1, 0, 1}});
  all.push_back({{1, 3, 5, 58}, 386, 1, 1, {1, 0, 1}});
  all.push_back({{2, 4, 4, 136}, 88, 3, 3, {1, 1, 1}});
  all.push_back({{1, 13, 15, 16}, 72, 3, 3, {1, 1, 1}});
  for (const ConvCase& c : all)
    for (const bool f32 : {false, true})
      check_op({.slot = conv2d_backward,
                .label = c.label() + (f32 ? ", filter's in f32" : ""),
                .inputs = {{"x", c.x}, {"w", c.w()}, {"dy", c.y()}},
                .outputs = {{"dx", c.x},
                            {"dw", c.w(), outliers(), f32 ? std::optional(DType::f32) : std::nullopt}},
                .run =
                    [p = c.params](Context& context, Tensors& t) {
                      conv2d_backward(context, t["x"], t["w"], t["dy"], p, t["dx"], t["dw"]);
                    },
                .reference =
                    [p = c.params](Arrays& a) {
                      reference::conv2d_backward_input(a["dy"], a["w"], p, a["dx"]);
                      reference::conv2d_backward_weight(a["x"], a["dy"], p, a["dw"]);
                    },
                .dtypes = f32 ? std::vector{DType::bf16, DType::f16}
                              : std::vector{DType::f32, DType::bf16, DType::f16}});
}

// Products so large that tiles of 128 rows would leave a last round of few: in 192 x 128, and 192 x 192.
// Gradients of filters: 192 x 192, and 256 x 128.
struct LargeProduct {
  ConvCase conv;
  DType dtype;
};
std::vector<LargeProduct> large_products() {
  return {{{{1, 67, 127, 200}, 160, 1, 1, {1, 0, 1}}, DType::bf16},
          {{{1, 131, 129, 136}, 176, 1, 1, {1, 0, 1}}, DType::f16}};
}

TEST(Conv2dTest, LargeProducts) {
  for (const auto& [c, dtype] : large_products())
    check_op({.slot = conv2d_forward,
              .inputs = {{"x", c.x},
                         {"w", c.w()},
                         {"shift", {c.filters}, short_values(), DType::f32},
                         {"residual", c.y()}},
              .outputs = {{"y", c.y()}},
              .run =
                  [](Context& context, Tensors& t) {
                    conv2d_forward(context, t["x"], t["w"], {},
                                   {{}, t["shift"], t["residual"], Activation::relu}, t["y"]);
                  },
              .reference =
                  [](Arrays& a) {
                    reference::conv2d(a["x"], a["w"], {},
                                      {a[""], a["shift"], a["residual"], Activation::relu}, a["y"]);
                  },
              .dtypes = {dtype},
              .only = "tensor_core"});
}

TEST(Conv2dTest, LargeProductsBackwardInput) {
  for (const auto& [forward, dtype] : large_products())
    check_backward_input({forward.x.with(-1, forward.filters), forward.x[3], 1, 1, {1, 0, 1}}, {dtype},
                         "tensor_core");
}

TEST(Conv2dTest, LargeProductsBackwardWeight) {
  for (const auto& [c, dtype] : {LargeProduct{{{1, 131, 129, 152}, 160, 1, 1, {1, 0, 1}}, DType::f16},
                                 LargeProduct{{{1, 131, 129, 248}, 120, 1, 1, {1, 0, 1}}, DType::bf16}})
    check_op({.slot = conv2d_backward_weight,
              .inputs = {{"x", c.x}, {"dy", c.y()}},
              .outputs = {{"dw", c.w()}},
              .run = [](Context& context,
                        Tensors& t) { conv2d_backward_weight(context, t["x"], t["dy"], {}, t["dw"]); },
              .reference = [](Arrays& a) { reference::conv2d_backward_weight(a["x"], a["dy"], {}, a["dw"]); },
              .dtypes = {dtype},
              .only = "tensor_core"});
}

// An f32 filter is rounded to the images' type, and its gradient is not.
TEST(Conv2dTest, F32FilterWithShortImages) {
  for (const Device device : devices_under_test()) {
    const std::vector<float> ones(16, 1.0f);
    const Variable x = cast(Tensor::from(ones, {16, 1, 1, 1}, device), DType::bf16);
    const Variable w(Tensor::from(std::vector<float>{1.001f}, {1, 1, 1, 1}, device), true);
    const Variable y = conv2d(x, w, {}, {});
    EXPECT_EQ(y.dtype(), DType::bf16);
    EXPECT_EQ(cast(y, DType::f32).value().to_vector<float>()[0], 1.0f);
    // 1 + 15 / 256: seven bits of mantissa do not hold it.
    std::vector<float> slopes(16, 1.0f / 256);
    slopes[0] = 1.0f;
    backward(y, cast(Tensor::from(slopes, {16, 1, 1, 1}, device), DType::bf16).value());
    EXPECT_EQ(w.grad().dtype(), DType::f32);
    EXPECT_EQ(w.grad().item(), 1.0f + 15.0f / 256);
  }
}

std::string error_of(const Shape& x, const Shape& w, const Conv2dParams& p) {
  try {
    conv2d_shape(x, w, p);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    return error.what();
  }
  return "no error";
}

TEST(Conv2dTest, ErrorsNameBothShapes) {
  using testing::AllOf;
  using testing::HasSubstr;
  EXPECT_THAT(error_of({1, 7, 7, 3}, {8, 3, 3, 4}, {}),
              AllOf(HasSubstr("[1, 7, 7, 3]"), HasSubstr("[8, 3, 3, 4]")));
  EXPECT_THAT(error_of({1, 2, 7, 3}, {8, 3, 3, 3}, {}),
              AllOf(HasSubstr("[1, 2, 7, 3]"), HasSubstr("[8, 3, 3, 3]")));
  EXPECT_THAT(error_of({7, 7, 3}, {8, 3, 3, 3}, {}), HasSubstr("rank 4"));
  EXPECT_THAT(error_of({1, 7, 7, 3}, {8, 3, 3, 3}, {.stride = 0}), HasSubstr("stride 0"));
}

TEST(Conv2dTest, MacsOfResNetStem) {
  EXPECT_EQ(conv2d_macs({1, 224, 224, 3}, {64, 7, 7, 3}, {.stride = 2, .padding = 3}), 118013952);
}

}  // namespace
}  // namespace plume::test
