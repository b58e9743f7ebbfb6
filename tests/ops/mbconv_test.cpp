#include "engine/ops/mbconv.h"

#include <gtest/gtest.h>

#include <array>

#include "engine/ops/depthwise_conv2d.h"
#include "engine/ops/depthwise_pool.h"
#include "tests/ops/reference/convolution.h"
#include "tests/support/check_op.h"
#include "tests/support/stored.h"

namespace plume::test {
namespace {

// Outliers would overflow f16 between the steps.
Fill values(DType dtype) { return dtype == DType::f32 ? outliers() : positive(-1, 1); }
constexpr DType kDTypes[] = {DType::f32, DType::bf16, DType::f16};

// Of values that cuDNN may convert to the images' type.
Operand f32(const char* name, const Shape& shape) {
  return {name, shape, short_values(positive(-1, 1)), DType::f32};
}

// Of planes that are stored in the dtype.
void reference_means(Array planes, DType dtype, Array& pooled) {
  store(planes, dtype);
  const int64_t plane = planes.dim(1) * planes.dim(2);
  for (int64_t i = 0; i < pooled.size(); ++i) {
    const int64_t n = i / pooled.dim(1), e = i % pooled.dim(1);
    Sum sum;
    for (int64_t pixel = 0; pixel < plane; ++pixel) sum += planes.at(n * plane + pixel, e);
    pooled[i] = Real(sum) / double(plane);
  }
}
// ---- depthwise_pool ----

TEST(DepthwisePoolTest, Forward) {
  struct Case {
    Shape x;
    int filter;
    Conv2dParams params;
    Activation activation;
  };
  // Strips of four and of seven columns, whole and not, one and many of a plane; channels that no pair
  // divides; a filter for the general variant.
  for (const Case& c : {Case{{2, 14, 14, 24}, 5, {1, 2, 1}, Activation::hardswish},
                        Case{{3, 7, 7, 40}, 3, {1, 1, 1}, Activation::silu},
                        Case{{1, 12, 10, 6}, 3, {1, 1, 1}, Activation::identity},
                        Case{{2, 31, 15, 16}, 3, {2, 1, 1}, Activation::relu},
                        Case{{1, 13, 16, 58}, 5, {2, 2, 1}, Activation::hardswish},
                        Case{{18, 14, 14, 80}, 3, {1, 1, 1}, Activation::silu},
                        Case{{1, 1, 1, 8}, 5, {1, 2, 1}, Activation::relu},
                        Case{{2, 5, 9, 17}, 3, {1, 1, 1}, Activation::silu},
                        Case{{1, 9, 9, 8}, 7, {1, 3, 1}, Activation::relu}})
    for (const DType dtype : kDTypes) {
      const Shape w{c.filter, c.filter, c.x[3]}, y = depthwise_conv2d_shape(c.x, w, c.params);
      check_op({.slot = depthwise_pool_forward,
                .label = message("{}, stride {}", name(c.activation), c.params.stride),
                .inputs = {{"x", c.x, values(dtype)},
                           {"w", w, values(dtype)},
                           f32("scale", {c.x[3]}),
                           f32("shift", {c.x[3]})},
                .outputs = {{"y", y}, f32("pooled", {y[0], y[3]})},
                .run =
                    [c](Context& context, Tensors& t) {
                      const Epilogue epilogue{t["scale"], t["shift"], {}, c.activation};
                      Tensor parts = one_part(t["pooled"]);
                      depthwise_pool_forward(context, t["x"], t["w"], c.params, epilogue, t["y"], parts);
                      add_parts(parts, t["pooled"]);
                    },
                .reference =
                    [c, dtype](Arrays& a) {
                      reference::depthwise_conv2d(a["x"], a["w"], c.params,
                                                  {a["scale"], a["shift"], Array(), c.activation}, a["y"]);
                      reference_means(a["y"], dtype, a["pooled"]);
                    },
                .dtypes = {dtype}});
    }
}

// ---- expand_depthwise ----

struct ExpandCase {
  Shape x;
  int64_t expanded;
  int filter;
  ExpandDepthwiseParams params;
};

const std::vector<ExpandCase> kExpandCases = {
    {{1, 7, 7, 16}, 72, 3, {Activation::relu, Activation::relu, 1, 1}},
    {{3, 15, 9, 8}, 16, 3, {Activation::silu, Activation::silu, 2, 1}},
    {{2, 14, 14, 24}, 96, 5, {Activation::hardswish, Activation::hardswish, 1, 2}},
    {{1, 9, 8, 40}, 136, 5, {Activation::hardswish, Activation::identity, 2, 2}},
    {{1, 1, 1, 8}, 8, 3, {Activation::silu, Activation::relu, 1, 1}},
    // for the general variant: channels that no pack divides, a 7x7 filter
    {{2, 7, 5, 3}, 17, 3, {Activation::relu, Activation::relu, 1, 1}},
    {{1, 9, 9, 8}, 8, 7, {Activation::relu, Activation::relu, 1, 3}}};

void reference_expand(const ExpandDepthwiseParams& p, DType dtype, Arrays& a) {
  const Array none, &x = a["x"];
  Array between(x.shape.with(-1, a["w1"].dim(0)));
  reference::conv2d(x, a["w1"], {}, {none, a["b1"], none, p.expanded}, between);
  store(between, dtype);
  reference::depthwise_conv2d(between, a["w2"], {p.stride, p.padding}, {none, a["b2"], none, p.out}, a["d"]);
  reference_means(a["d"], dtype, a["pooled"]);
}

TEST(ExpandDepthwiseTest, Forward) {
  for (const ExpandCase& c : kExpandCases)
    for (const DType dtype : kDTypes)
      for (const auto& [pool, packed] :
           {std::pair{true, false}, {false, false}, {true, true}, {false, true}}) {
        const Shape expanded = c.x.with(-1, c.expanded), w2{c.filter, c.filter, c.expanded};
        const Shape d = depthwise_conv2d_shape(expanded, w2, {c.params.stride, c.params.padding});
        std::vector<Operand> outputs{{"d", d}};
        if (pool) outputs.push_back(f32("pooled", {d[0], d[3]}));
        check_op({.slot = expand_depthwise_forward,
                  .label = message("{} {}, stride {}{}", name(c.params.expanded), name(c.params.out),
                                   c.params.stride, packed ? ", constant filter" : ""),
                  .inputs = {{"x", c.x, values(dtype)},
                             {"w1", {c.expanded, 1, 1, c.x[3]}, values(dtype)},
                             f32("b1", {c.expanded}),
                             {"w2", w2, values(dtype)},
                             f32("b2", {c.expanded})},
                  .outputs = outputs,
                  .run =
                      [p = c.params, packed = packed](Context& context, Tensors& t) mutable {
                        PackedFilter filter;
                        Tensor parts = one_part(t["pooled"]);
                        if (packed) p.packed = &filter;
                        expand_depthwise_forward(context, t["x"], t["w1"], t["b1"], t["w2"], t["b2"], p,
                                                 t["d"], parts);
                        add_parts(parts, t["pooled"]);
                      },
                  .reference = [p = c.params, dtype](Arrays& a) { reference_expand(p, dtype, a); },
                  .dtypes = {dtype}});
      }
}

// ---- squeeze_gate ----

TEST(SqueezeGateTest, Forward) {
  for (const SqueezeExcitationParams params :
       {SqueezeExcitationParams{Activation::relu, Activation::hardsigmoid},
        SqueezeExcitationParams{Activation::silu, Activation::sigmoid}})
    for (const auto& [images, parts, channels, hidden] :
         std::vector<std::array<int64_t, 4>>{{3, 1, 1, 1},
                                             {1, 3, 17, 8},
                                             {3, 2, 300, 40},
                                             {1, 1, 8, 8},
                                             {19, 5, 40, 8},
                                             {3, 1, 296, 40},
                                             {16, 4, 96, 136}})
      for (const auto& [dtype, keeps] : {std::pair{DType::f32, true},
                                         {DType::bf16, false},
                                         {DType::bf16, true},
                                         {DType::f16, true},
                                         {DType::f32, false}}) {
        std::vector<Operand> outputs{f32("gate", {images, channels})};
        if (keeps)
          for (const auto& [what, width] : {std::pair{"means", channels}, {"z1", hidden}, {"z2", channels}})
            outputs.push_back(f32(what, {images, width}));
        check_op({.slot = squeeze_gate_forward,
                  .label = name(params.gate),
                  .inputs = {f32("pooled", {images, parts, channels}),
                             {"w1", {hidden, channels}, positive(-1, 1)},
                             f32("b1", {hidden}),
                             {"w2", {channels, hidden}, positive(-1, 1)},
                             f32("b2", {channels})},
                  .outputs = outputs,
                  .run =
                      [params](Context& context, Tensors& t) {
                        SqueezeExcitationKept kept{t["means"], t["z1"], t["z2"]};
                        squeeze_gate_forward(context, t["pooled"], t["w1"], t["b1"], t["w2"], t["b2"], params,
                                             t["gate"], kept);
                      },
                  .reference =
                      [params, dtype = dtype](Arrays& a) {
                        const Array none, &pooled = a["pooled"];
                        Array means({pooled.dim(0), pooled.dim(2)}), between({pooled.dim(0), a["w1"].dim(0)});
                        for (int64_t i = 0; i < means.size(); ++i) {
                          Sum sum;
                          for (int64_t part = 0; part < pooled.dim(1); ++part)
                            sum += pooled.at(i / means.dim(1) * pooled.dim(1) + part, i % means.dim(1));
                          means[i] = Real(sum);
                        }
                        if (a["means"].defined()) a["means"] = means;
                        if (pooled.dim(1) > 1) store(means, dtype);
                        reference::linear(means, a["w1"], {none, a["b1"], none}, between);
                        if (a["z1"].defined()) a["z1"] = between;
                        for (Real& v : between.values) v = reference::activate(params.inner, v);
                        store(between, dtype);
                        reference::linear(between, a["w2"], {none, a["b2"], none}, a["gate"]);
                        if (a["z2"].defined()) a["z2"] = a["gate"];
                        for (Real& v : a["gate"].values) v = reference::activate(params.gate, v);
                      },
                  .dtypes = {dtype}});
      }
}

// ---- gated_pointwise ----

TEST(GatedPointwiseTest, Forward) {
  struct Case {
    Shape x;
    int64_t filters;
    Activation activation;
    bool residual;
  };
  // One pixel, several images in a block, several blocks, channels in whole packs and not.
  for (const Case& c :
       {Case{{1, 1, 1, 1}, 1, Activation::identity, false},
        Case{{3, 7, 7, 72}, 24, Activation::identity, true},
        Case{{2, 14, 14, 96}, 130, Activation::silu, true},
        // images of a few pixels, of one, and shallow ones; several ends of images in a block
        Case{{70, 1, 2, 72}, 8, Activation::identity, false},
        Case{{5, 3, 7, 136}, 72, Activation::relu, true}, Case{{3, 5, 9, 16}, 16, Activation::identity, true},
        Case{{9, 1, 3, 32}, 24, Activation::silu, false}, Case{{1, 7, 31, 17}, 65, Activation::relu, false},
        // depth in slices, few and many
        Case{{3, 9, 6, 520}, 80, Activation::silu, true},
        Case{{1, 9, 15, 1032}, 8, Activation::identity, false},
        // tiles of 192 x 128 and 192 x 192, images of a few pixels and of many
        Case{{1217, 7, 1, 200}, 136, Activation::silu, false},
        Case{{3, 131, 43, 136}, 152, Activation::identity, true}})
    for (const auto& [dtype, constant] :
         {std::pair{DType::f32, false}, {DType::f32, true}, {DType::bf16, false}, {DType::f16, false}}) {
      const Shape y = c.x.with(-1, c.filters);
      const bool large = y.elements() > 1 << 20;
      if (large && dtype != (c.residual ? DType::f16 : DType::bf16))
        continue;  // one each: they take their time
      std::vector<Operand> inputs{{"x", c.x, values(dtype)},
                                  f32("gate", {c.x[0], c.x[3]}),
                                  {"w", {c.filters, 1, 1, c.x[3]}, values(dtype)},
                                  f32("shift", {c.filters})};
      if (c.residual) inputs.push_back({"residual", y, values(dtype)});
      check_op({.slot = gated_pointwise_forward,
                .label = message("{}{}", name(c.activation), constant ? ", constant filter" : ""),
                .inputs = inputs,
                .outputs = {{"y", y}},
                .run =
                    [c, constant = constant](Context& context, Tensors& t) {
                      const Epilogue epilogue{{}, t["shift"], t["residual"], c.activation};
                      PackedFilter filter;
                      gated_pointwise_forward(context, t["x"], t["gate"], t["w"],
                                              constant ? &filter : nullptr, epilogue, t["y"]);
                    },
                .reference =
                    [c, dtype = dtype](Arrays& a) {
                      Array scaled = a["x"];
                      const int64_t plane = c.x[1] * c.x[2], channels = c.x[3];
                      for (int64_t i = 0; i < scaled.size(); ++i)
                        scaled[i] = scaled[i] * a["gate"].at(i / channels / plane, i % channels);
                      store(scaled, dtype);
                      const Array none;
                      reference::conv2d(scaled, a["w"], {}, {none, a["shift"], a["residual"], c.activation},
                                        a["y"]);
                    },
                .dtypes = {dtype},
                .only = large ? "tensor_core" : ""});
    }
}

// Channels in chunks and not, images of one pixel to many, several in a step and ends in one; one slice of
// pixels and several; tiles of each kind.
TEST(GatedPointwiseTest, BackwardWeight) {
  struct Case {
    Shape x;
    int64_t filters;
  };
  for (const Case& c :
       {Case{{1, 1, 1, 1}, 1}, Case{{2, 7, 7, 72}, 24}, Case{{70, 1, 2, 72}, 8}, Case{{5, 3, 7, 136}, 72},
        Case{{3, 5, 9, 16}, 16}, Case{{9, 1, 3, 32}, 130}, Case{{1, 7, 31, 17}, 65}, Case{{40, 1, 1, 24}, 40},
        Case{{3, 14, 14, 200}, 136}, Case{{7, 5, 5, 260}, 200}, Case{{4, 9, 11, 1032}, 8}})
    for (const DType dtype : kDTypes)
      check_op({.slot = gated_pointwise_backward_weight,
                .inputs = {{"x", c.x, values(dtype)},
                           f32("gate", {c.x[0], c.x[3]}),
                           {"dy", c.x.with(-1, c.filters), values(dtype)}},
                .outputs = {f32("dw", {c.filters, 1, 1, c.x[3]})},
                .run =
                    [](Context& context, Tensors& t) {
                      gated_pointwise_backward_weight(context, t["x"], t["gate"], t["dy"], t["dw"]);
                    },
                .reference =
                    [dtype](Arrays& a) {
                      Array scaled = a["x"];
                      const int64_t plane = scaled.dim(1) * scaled.dim(2), channels = scaled.dim(3);
                      for (int64_t i = 0; i < scaled.size(); ++i)
                        scaled[i] = scaled[i] * a["gate"].at(i / channels / plane, i % channels);
                      store(scaled, dtype);
                      reference::conv2d_backward_weight(scaled, a["dy"], {}, a["dw"]);
                    },
                .dtypes = {dtype}});
}

// ---- fused_mbconv ----

TEST(FusedMbconvTest, Forward) {
  struct Case {
    Shape x;
    int64_t expanded, filters;
    int filter;
    FusedMbconvParams params;
    bool residual;
  };
  for (const Case& c : {Case{{1, 9, 9, 24}, 96, 48, 3, {Activation::silu, 2, 1}, false},
                        Case{{2, 9, 11, 48}, 192, 48, 3, {Activation::silu, 1, 1}, true},
                        Case{{1, 1, 1, 8}, 8, 1, 3, {Activation::relu, 1, 1}, true},
                        Case{{1, 12, 12, 16}, 72, 64, 5, {Activation::hardswish, 1, 2}, false},
                        // for the general variant: odd channels, many filters
                        Case{{1, 7, 7, 3}, 17, 5, 3, {Activation::silu, 1, 1}, false},
                        Case{{1, 7, 7, 8}, 16, 72, 3, {Activation::silu, 1, 1}, true}})
    for (const DType dtype : kDTypes) {
      const Shape w1{c.expanded, c.filter, c.filter, c.x[3]};
      const Conv2dParams first{c.params.stride, c.params.padding};
      const Shape between = conv2d_shape(c.x, w1, first), y = between.with(-1, c.filters);
      std::vector<Operand> inputs{{"x", c.x, values(dtype)},
                                  {"w1", w1, values(dtype)},
                                  f32("b1", {c.expanded}),
                                  {"w2", {c.filters, 1, 1, c.expanded}, values(dtype)},
                                  f32("shift", {c.filters})};
      if (c.residual) inputs.push_back({"residual", y, values(dtype)});
      check_op({.slot = fused_mbconv_forward,
                .label = message("{}, stride {}", name(c.params.expanded), c.params.stride),
                .inputs = inputs,
                .outputs = {{"y", y}},
                .run =
                    [c](Context& context, Tensors& t) {
                      const Epilogue epilogue{{}, t["shift"], t["residual"], Activation::identity};
                      fused_mbconv_forward(context, t["x"], t["w1"], t["b1"], t["w2"], epilogue, c.params,
                                           t["y"]);
                    },
                .reference =
                    [c, first, between, dtype](Arrays& a) {
                      const Array none;
                      Array expanded(between);
                      reference::conv2d(a["x"], a["w1"], first, {none, a["b1"], none, c.params.expanded},
                                        expanded);
                      store(expanded, dtype);
                      reference::conv2d(expanded, a["w2"], {}, {none, a["shift"], a["residual"]}, a["y"]);
                    },
                .dtypes = {dtype}});
    }
}

TEST(MbconvTest, RefusesWhatDoesNotFit) {
  const auto zeros = [](const Shape& shape) { return Tensor::zeros(shape, DType::f32, Device::cpu); };
  const Tensor x = zeros({1, 4, 4, 8});
  const auto expand = [&](const Shape& w1, const Shape& w2) {
    return expand_depthwise(x, zeros(w1), zeros({w1[0]}), zeros(w2), zeros({w2[2]}), {}, nullptr);
  };
  EXPECT_EQ(expand({16, 1, 1, 8}, {3, 3, 16}).shape(), (Shape{1, 4, 4, 16}));
  EXPECT_THROW(expand({16, 3, 3, 8}, {3, 3, 16}), Error);
  EXPECT_THROW(expand({16, 1, 1, 8}, {3, 3, 8}), Error);
  EXPECT_THROW(gated_pointwise(x, zeros({1, 4}), zeros({4, 1, 1, 8}), {}, nullptr), Error);
  EXPECT_THROW(squeeze_gate(zeros({1, 1, 8}), zeros({2, 8}), zeros({2}), zeros({7, 2}), zeros({7}), {}),
               Error);
  EXPECT_THROW(squeeze_gate(zeros({1, 8}), zeros({2, 8}), zeros({2}), zeros({8, 2}), zeros({8}), {}), Error);
  EXPECT_THROW(fused_mbconv(x, zeros({16, 3, 3, 8}), zeros({16}), zeros({4, 3, 3, 16}), {}, {}), Error);
}

}  // namespace
}  // namespace plume::test
