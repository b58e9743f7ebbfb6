#include "engine/ops/max_pool2d.h"

#include <gtest/gtest.h>

#include <limits>

#include "tests/ops/reference/pooling.h"
#include "tests/support/check_op.h"

namespace plume::test {
namespace {

struct MaxPoolCase {
  Shape x;
  MaxPool2dParams params;
  Shape y() const { return max_pool2d_shape(x, params); }
  std::string label() const {
    return message("window {}, stride {}, padding {}{}", params.window, params.stride, params.padding,
                   params.ceil_mode ? ", ceil" : "");
  }
};

std::vector<MaxPoolCase> max_pool_cases() {
  std::vector<MaxPoolCase> list;
  for (const Shape& x : odd_images()) {
    list.push_back({x, {1, 1, 0}});
    list.push_back({x, {3, 2, 1}});
    list.push_back({x, {3, 1, 1, true}});
    if (x[1] == 1 || x[2] == 1) continue;
    list.push_back({x, {2, 2, 0}});
    list.push_back({x, {3, 2, 0, true}});
    list.push_back({x, {5, 3, 2, true}});
    list.push_back({x, {2, 3, 1}});  // gaps between windows
    list.push_back({x, {4, 2, 1}});
  }
  return list;
}

TEST(MaxPool2dTest, Forward) {
  for (const MaxPoolCase& c : max_pool_cases())
    check_op(
        {.slot = max_pool2d_forward,
         .label = c.label(),
         .inputs = {{"x", c.x, distinct()}},
         .outputs = {{"y", c.y()}, {.name = "argmax", .shape = c.y(), .dtype = DType::u8}},
         .run = [p = c.params](Context& context,
                               Tensors& t) { max_pool2d_forward(context, t["x"], p, t["y"], t["argmax"]); },
         .reference = [p = c.params](Arrays& a) { reference::max_pool2d(a["x"], p, a["y"], a["argmax"]); },
         .op = [p = c.params](Variables& v) { return max_pool2d(v["x"], p); }});
}

// Inference: no places are kept.
TEST(MaxPool2dTest, ForwardWithoutPlaces) {
  for (const MaxPoolCase& c : max_pool_cases())
    check_op({.slot = max_pool2d_forward,
              .label = c.label(),
              .inputs = {{"x", c.x, distinct()}},
              .outputs = {{"y", c.y()}},
              .run =
                  [p = c.params](Context& context, Tensors& t) {
                    Tensor none;
                    max_pool2d_forward(context, t["x"], p, t["y"], none);
                  },
              .reference =
                  [c](Arrays& a) {
                    Array places(c.y());
                    reference::max_pool2d(a["x"], c.params, a["y"], places);
                  }});
}

TEST(MaxPool2dTest, Backward) {
  for (const MaxPoolCase& c : max_pool_cases()) {
    // The winners of some forward pass.
    const Fill winners = [c](const Shape& shape, RandomSequence& random, bool gentle) {
      Array x(c.x), y(shape), argmax(shape);
      const std::vector<double> values = outliers()(c.x, random, gentle);
      for (int64_t i = 0; i < x.size(); ++i) x[i] = values[size_t(i)];
      reference::max_pool2d(x, c.params, y, argmax);
      std::vector<double> places;
      for (const Real& place : argmax.values) places.push_back(place.value);
      return places;
    };
    check_op(
        {.slot = max_pool2d_backward,
         .label = c.label(),
         .inputs = {{"dy", c.y()}, {"argmax", c.y(), winners, DType::u8}},
         .outputs = {{"dx", c.x}},
         .run = [p = c.params](
                    Context& context,
                    Tensors& t) { max_pool2d_backward(context, t["dy"], t["argmax"], p, t["dx"]); },
         .reference = [p = c.params](
                          Arrays& a) { reference::max_pool2d_backward(a["dy"], a["argmax"], p, a["dx"]); }});
  }
}

// Ties go to the first, NaN wins, and negative infinity beats padding.
TEST(MaxPool2dTest, SpecialValues) {
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  const std::vector<double> one_channel{5,    5,    1,   2,    //
                                        5,    5,    nan, 3,    //
                                        -inf, -inf, inf, inf,  //
                                        -inf, -inf, 0,   inf};
  for (const int64_t channels : {8, 9}) {  // a vector, whose values are compared two at once, and one more
    const auto repeated = [channels](const std::vector<double>& values) {
      std::vector<double> all;
      for (const double v : values) all.insert(all.end(), size_t(channels), v);
      return all;
    };
    const Shape shape{1, 2, 2, channels};
    for (const bool with_places : {true, false}) {
      OpCase check{
          .slot = max_pool2d_forward,
          .inputs = {{"x", {1, 4, 4, channels}, given(repeated(one_channel))}},
          .outputs = {{"y", shape}},
          .run =
              [=](Context& context, Tensors& t) {
                Tensor none;
                max_pool2d_forward(context, t["x"], {2, 2, 0}, t["y"], with_places ? t["argmax"] : none);
              },
          .reference =
              [=](Arrays& a) {
                const auto set = [&](const char* name, const std::vector<double>& values) {
                  a[name].values.assign(values.begin(), values.end());
                };
                set("y", repeated({5, nan, -inf, inf}));
                if (with_places) set("argmax", repeated({0, 2, 0, 0}));
              }};
      if (with_places) check.outputs.push_back({.name = "argmax", .shape = shape, .dtype = DType::u8});
      check_op(check);
    }
  }
}

TEST(MaxPool2dTest, ShapeFollowsPyTorch) {
  EXPECT_EQ(max_pool2d_shape({1, 112, 112, 64}, {3, 2, 1}), (Shape{1, 56, 56, 64}));
  EXPECT_EQ(max_pool2d_shape({1, 109, 109, 64}, {3, 2, 0, true}), (Shape{1, 54, 54, 64}));
  EXPECT_EQ(max_pool2d_shape({1, 4, 4, 1}, {3, 2, 0, true}), (Shape{1, 2, 2, 1}));
  // The last window would start in the padding.
  EXPECT_EQ(max_pool2d_shape({1, 3, 3, 1}, {2, 2, 1, true}), (Shape{1, 2, 2, 1}));
  EXPECT_THROW(max_pool2d_shape({1, 2, 2, 1}, {3, 1, 0}), Error);
  EXPECT_THROW(max_pool2d_shape({1, 8, 8, 1}, {3, 1, 2}), Error);
  EXPECT_NO_THROW(max_pool2d_shape({1, 32, 32, 1}, {16, 1, 0}));
  EXPECT_THROW(max_pool2d_shape({1, 32, 32, 1}, {17, 1, 0}), Error);  // places are bytes
}

}  // namespace
}  // namespace plume::test
