#include "engine/ops/conv2d_max_pool.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/ops/cast.h"
#include "tests/ops/convolution_cases.h"
#include "tests/ops/reference/convolution.h"
#include "tests/ops/reference/pooling.h"
#include "tests/support/check_op.h"

namespace plume::test {
namespace {

struct StemCase {
  ConvCase conv;
  MaxPool2dParams pool;

  Shape y() const { return max_pool2d_shape(conv.y(), pool); }
  std::string label() const {
    return message("{}, pooled {}x{}, stride {}, padding {}{}", conv.label(), pool.window, pool.window,
                   pool.stride, pool.padding, pool.ceil_mode ? ", ceil" : "");
  }
};

// Filters that begin in the middle of a word and not, of both sizes, few and many; poolings of all networks;
// rows of whole copies, of pairs, and odd ones; one tile of columns, several, and a last one of one column;
// more rows than blocks. Then what is left to the two operations: other poolings, filters, strides, channels.
const std::vector<StemCase> kStemCases = {{{{2, 13, 14, 3}, 16, 3, 3, {2, 1, 1}}, {3, 2, 1}},
                                          {{{2, 21, 20, 3}, 64, 7, 7, {2, 3, 1}}, {3, 2, 1}},
                                          {{{1, 21, 24, 3}, 40, 7, 7, {2, 2, 1}}, {3, 2, 0, true}},
                                          {{{1, 33, 40, 3}, 24, 3, 3, {2, 0, 1}}, {3, 2, 0, true}},
                                          {{{2, 17, 35, 3}, 72, 3, 3, {2, 2, 1}}, {3, 2, 1, true}},
                                          {{{1, 19, 58, 3}, 8, 3, 3, {2, 1, 1}}, {3, 2, 1}},
                                          {{{1, 15, 64, 3}, 96, 7, 7, {2, 0, 1}}, {3, 2, 1, true}},
                                          {{{1, 5, 6, 3}, 32, 3, 3, {2, 1, 1}}, {3, 2, 0}},
                                          {{{150, 10, 8, 3}, 8, 3, 3, {2, 1, 1}}, {3, 2, 1}},
                                          {{{1, 13, 14, 3}, 16, 3, 3, {2, 1, 1}}, {2, 2, 0}},
                                          {{{1, 13, 14, 3}, 10, 3, 3, {2, 1, 1}}, {3, 2, 1}},
                                          {{{1, 13, 14, 3}, 16, 5, 5, {2, 2, 1}}, {3, 2, 1}},
                                          {{{1, 13, 14, 3}, 16, 3, 3, {1, 1, 1}}, {3, 2, 1}},
                                          {{{1, 13, 14, 8}, 16, 3, 3, {2, 1, 1}}, {3, 2, 1}}};

TEST(Conv2dMaxPoolTest, Forward) {
  for (const StemCase& c : kStemCases)
    for (const Activation activation : {Activation::relu, Activation::silu, Activation::identity}) {
      const bool scaled = activation == Activation::identity;
      std::vector<Operand> inputs{
          {"x", c.conv.x}, {"w", c.conv.w()}, {"shift", {c.conv.filters}, short_values(), DType::f32}};
      if (scaled) inputs.push_back({"scale", {c.conv.filters}, short_values(), DType::f32});
      check_op(
          {.slot = conv2d_max_pool_forward,
           .label = c.label() + ", " + name(activation),
           .inputs = inputs,
           .outputs = {{"y", c.y()}},
           .run =
               [=](Context& context, Tensors& t) {
                 const Epilogue epilogue{.scale = t["scale"], .shift = t["shift"], .activation = activation};
                 conv2d_max_pool_forward(context, t["x"], t["w"], c.conv.params, epilogue, c.pool, t["y"]);
               },
           .reference =
               [=](Arrays& a) {
                 Array whole(c.conv.y()), places(c.y());
                 reference::conv2d(a["x"], a["w"], c.conv.params, {a["scale"], a["shift"], a[""], activation},
                                   whole);
                 reference::max_pool2d(whole, c.pool, a["y"], places);
                 // Which of a window's values is the largest may depend on their errors.
                 double error = 0;
                 for (const Real& v : whole.values) error = std::max(error, v.error);
                 for (Real& v : a["y"].values) v.error = error;
               },
           .coarse = {{"separate", 1e-5}}});  // another library may be inside
    }
}

// What is not kept between two bands of rows of an image is computed again, and does not change: a wide
// image, of which a block has room for one row at a time.
TEST(Conv2dMaxPoolTest, BandsOfRowsChangeNoBit) {
  if (devices_under_test() != std::vector{Device::simt}) GTEST_SKIP() << "the emulator's own kernels";
  RandomSequence random(1);
  const auto drawn = [&](const Shape& shape) {
    std::vector<float> values(size_t(shape.elements()));
    for (float& v : values) v = random.normal();
    return cast(Tensor::from(values, shape, Device::simt), DType::bf16).value();
  };
  const Tensor x = drawn({1, 1596, 1400, 3}), w = drawn({8, 3, 3, 3});
  const auto pooled = [&](const char* variant) {
    conv2d_max_pool_forward.force(Device::simt, variant);
    const Tensor y = conv2d_max_pool(x, w, {.stride = 2, .padding = 1}, {}, {3, 2, 1});
    conv2d_max_pool_forward.force(Device::simt, "");
    return y.to_vector<bf16>();
  };
  const std::vector<bf16> fused = pooled("stem"), separate = pooled("separate");
  int64_t different = 0;
  for (size_t i = 0; i < fused.size(); ++i) different += fused[i].bits != separate[i].bits;
  EXPECT_EQ(different, 0);
}

// A NaN is the largest of its window, an infinite value reaches what reads it alone.
TEST(Conv2dMaxPoolTest, NanWins) {
  for (const Device device : devices_under_test())
    for (const float bad : {NAN, INFINITY})
      for (const int padding : {0, 1}) {
        const Shape shape{1, 21, 24, 3};
        std::vector<float> values(size_t(shape.elements()), 0.5f);
        values[size_t((9 * 24 + 11) * 3 + 2)] = bad;
        const Tensor x = cast(Tensor::from(values, shape, device), DType::bf16).value();
        const Tensor w =
            cast(Tensor::from(std::vector<float>(8 * 27, -0.5f), {8, 3, 3, 3}, device), DType::bf16).value();
        const Conv2dParams params{.stride = 2, .padding = padding};
        const Epilogue relu{.activation = Activation::relu};
        const Tensor y = conv2d_max_pool(x, w, params, relu, {3, 2, 1});
        const Tensor whole = conv2d_fused(x, w, params, relu);
        const Variable apart = max_pool2d(Variable(whole), {3, 2, 1});
        const auto floats = [](const Tensor& t) {
          return cast(Variable(t), DType::f32).value().to_vector<float>();
        };
        const std::vector<float> a = floats(y), b = floats(apart.value());
        int nans = 0;
        for (size_t i = 0; i < a.size(); ++i) {
          EXPECT_EQ(std::isnan(a[i]), std::isnan(b[i])) << name(device) << " " << i;
          nans += std::isnan(a[i]);
        }
        // Minus infinity, before the relu.
        EXPECT_EQ(nans > 0, std::isnan(bad)) << name(device);
      }
}

TEST(Conv2dMaxPoolTest, RefusesWhatDoesNotFit) {
  const auto zeros = [](const Shape& shape) { return Tensor::zeros(shape, DType::f32, Device::cpu); };
  const auto apply = [&](const Shape& w, const MaxPool2dParams& pool, const Epilogue& epilogue = {}) {
    return conv2d_max_pool(zeros({1, 9, 9, 3}), zeros(w), {.stride = 2}, epilogue, pool).shape();
  };
  EXPECT_EQ(apply({5, 3, 3, 3}, {3, 2, 1}), (Shape{1, 2, 2, 5}));
  EXPECT_THROW(apply({5, 3, 3, 4}, {3, 2, 1}), Error);
  EXPECT_THROW(apply({5, 3, 3, 3}, {3, 2, 2}), Error);
  EXPECT_THROW(apply({5, 3, 3, 3}, {3, 2, 1}, {.residual = zeros({1, 4, 4, 5})}), Error);
}

}  // namespace
}  // namespace plume::test
