// A NaN is not swallowed by a relu, alone or fused: a loss that is not finite must be seen. The fused ones of
// cuDNN and cuBLASLt are asked where a GPU answers: nothing documents what they do.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "engine/ops/activation.h"
#include "engine/ops/batch_norm.h"
#include "engine/ops/cast.h"
#include "engine/ops/conv2d.h"
#include "engine/ops/depthwise_conv2d.h"
#include "engine/ops/epilogue.h"
#include "engine/ops/fire.h"
#include "engine/ops/linear.h"
#include "engine/ops/relu.h"
#include "tests/support/check_op.h"
#include "tests/support/coverage.h"

namespace plume::test {
namespace {

// Gives look(values, where) what `call` returns by every variant of the slot that fits.
template <class Slot, class Call, class Look>
void for_each_variant(Slot& slot, Device device, const Call& call, const Look& look) {
  int ran = 0;
  for (int i = 0; i < slot.variant_count(device); ++i) {
    const std::string variant = slot.variant_name(device, i);
    if (!is_under_test(variant)) continue;
    slot.force(device, variant);
    const std::string where = message("{} {} on {}", slot.name(), variant, device);
    try {
      look(cast(call(), DType::f32).value().template to_vector<float>(), where);
      ++ran;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::usage) << where << ": " << error.what();  // it does not fit
    }
    slot.force(device, "");
  }
  EXPECT_GT(ran, 0) << slot.name() << " on " << name(device);
}

// Looks for the NaN at `place`.
template <class Slot, class Call>
void expect_nan_passes(Slot& slot, Device device, int64_t place, const Call& call) {
  for_each_variant(slot, device, call, [&](const std::vector<float>& y, const std::string& where) {
    EXPECT_TRUE(std::isnan(y[size_t(place)])) << where << ": " << y[size_t(place)];
  });
}

Tensor with_nan(const Shape& shape, int64_t place, Device device) {
  std::vector<float> values(size_t(shape.elements()), 0.5f);
  values[size_t(place)] = NAN;
  return Tensor::from(values, shape, device);
}
Tensor halves(const Shape& shape, Device device) {
  return Tensor::from(std::vector<float>(size_t(shape.elements()), 0.5f), shape, device);
}

TEST(NanTest, Relu) {
  for (const Device device : devices_under_test()) {
    Context& c = context(device);
    for (const int64_t place : {int64_t(0), int64_t(36)}) {  // in a vector, and after the last
      const Tensor x = with_nan({37}, place, device), dy = halves({37}, device);
      expect_nan_passes(relu_forward, device, place, [&] {
        Tensor y = empty_like(x);
        relu_forward(c, x, y);
        return y;
      });
      Tensor dx = empty_like(x);
      relu_backward(c, x, dy, dx);
      EXPECT_EQ(dx.to_vector<float>()[size_t(place)], 0.5f) << name(device) << ": the gradient passes a NaN";
    }
  }
}

TEST(NanTest, FusedIntoWhatGoesBefore) {
  const Epilogue relu{.activation = Activation::relu};
  for (const Device device : devices_under_test()) {
    Context& c = context(device);
    const Tensor x = with_nan({1, 8, 8, 16}, 5 * 8 * 16 + 5 * 16, device);
    const int64_t pixel = 5 * 8 + 5;
    expect_nan_passes(epilogue_apply, device, pixel * 16, [&] {
      Tensor y = empty_like(x);
      epilogue_apply(c, x, relu, y);
      return y;
    });
    // Small images in a batch, and filters that are constant: what the special variants are for.
    const Tensor batch = with_nan({16, 4, 4, 16}, 150 * 16, device);
    for (const int64_t side : {int64_t(1), int64_t(3)})
      for (const bool constant : {false, true}) {
        const Tensor w = halves({32, side, side, 16}, device);
        expect_nan_passes(conv2d_forward, device, 150 * 32, [&] {
          PackedFilter packed;
          Tensor y = Tensor::empty({16, 4, 4, 32}, DType::f32, device);
          conv2d_forward(c, batch, w, {1, int(side / 2), 1, constant ? &packed : nullptr}, relu, y);
          return y;
        });
      }
    const Tensor one = halves({8, 1, 1, 16}, device), three = halves({8, 3, 3, 16}, device),
                 bias = halves({8}, device);
    expect_nan_passes(fire_expand_forward, device, 150 * 16 + 8, [&] {
      PackedFilter packed1, packed3;
      Tensor y = empty_like(batch);
      fire_expand_forward(c, batch, one, bias, three, bias, &packed1, &packed3, y);
      return y;
    });
    const Tensor depthwise = halves({3, 3, 16}, device);
    expect_nan_passes(depthwise_conv2d_forward, device, pixel * 16, [&] {
      Tensor y = empty_like(x);
      depthwise_conv2d_forward(c, x, depthwise, {.stride = 1, .padding = 1}, relu, y);
      return y;
    });
    const Tensor rows = with_nan({4, 16}, 16, device), w = halves({8, 16}, device);
    expect_nan_passes(linear_forward, device, 8, [&] {
      Tensor y = Tensor::empty({4, 8}, DType::f32, device);
      linear_forward(c, rows, w, relu, y);
      return y;
    });
    const Tensor ones = halves({16}, device);
    expect_nan_passes(batch_norm_forward_eval, device, pixel * 16, [&] {
      Tensor y = empty_like(x);
      batch_norm_forward_eval(c, x, ones, ones, {}, ones, ones, {.activation = Activation::relu}, y);
      return y;
    });
  }
}

// An infinite value makes those outputs infinite, or NaN, that read it, and no others: where a kernel reads
// more than its filter has taps and channels, a zero in the filter's place would not make up for it.
using Touches = std::function<bool(int64_t pixel, int64_t channel)>;  // of the output

template <class Slot, class Call>
void expect_reaches(Slot& slot, Device device, int64_t channels, const Touches& touches, const Call& call) {
  for_each_variant(slot, device, call, [&](const std::vector<float>& y, const std::string& where) {
    if (where.find("winograd") != std::string::npos || where.find("cudnn") != std::string::npos)
      return;  // mixes neighbouring outputs by construction, or may
    int64_t wrong = 0;
    for (int64_t i = 0; i < int64_t(y.size()); ++i)
      wrong += touches(i / channels, i % channels) == std::isfinite(y[size_t(i)]);
    EXPECT_EQ(wrong, 0) << where;
  });
}

struct ReachCase {
  Shape x;
  int64_t filters, side;
  Conv2dParams params;

  Shape w() const { return {filters, side, side, x[3]}; }
  Shape y() const { return conv2d_shape(x, w(), params); }
  // Does a tap of y's pixel lie on this pixel of x?
  bool taps(int64_t of_y, int64_t of_x) const {
    const Shape z = y();
    if (of_y / (z[1] * z[2]) != of_x / (x[1] * x[2])) return false;
    const auto inside = [&](int64_t out, int64_t in) {
      const int64_t tap = in - out * params.stride + params.padding;
      return tap >= 0 && tap < side;
    };
    return inside(of_y / z[2] % z[1], of_x / x[2] % x[1]) && inside(of_y % z[2], of_x % x[2]);
  }
};

// Three channels, whose rows under a filter end late or begin early in a word; pairs, fours and eights of
// channels; few and many filters.
const std::vector<ReachCase> kReachCases = {
    {{2, 13, 14, 3}, 16, 3, {2, 2, 1}}, {{2, 13, 14, 3}, 72, 3, {2, 0, 1}},
    {{2, 13, 14, 3}, 24, 3, {2, 1, 1}}, {{1, 21, 20, 3}, 64, 7, {2, 3, 1}},
    {{1, 21, 20, 3}, 64, 7, {2, 2, 1}}, {{2, 9, 9, 58}, 58, 1, {1, 0, 1}},
    {{2, 9, 9, 116}, 24, 1, {1, 0, 1}}, {{2, 9, 9, 24}, 40, 3, {1, 1, 1}},
    {{2, 9, 9, 10}, 12, 3, {1, 1, 1}},  {{1, 9, 9, 64}, 64, 3, {1, 1, 1}},
    {{2, 8, 9, 17}, 8, 3, {2, 1, 1}}};

TEST(NanTest, ReachesOnlyWhatReadsIt) {
  for (const Device device : devices_under_test())
    for (const DType dtype : {DType::f32, DType::bf16}) {
      Context& c = context(device);
      const auto halves_of = [&](const Shape& shape) { return cast(halves(shape, device), dtype).value(); };
      const auto infinite_at = [&](const Shape& shape, int64_t place) {
        std::vector<float> values(size_t(shape.elements()), 0.5f);
        values[size_t(place)] = INFINITY;
        return cast(Tensor::from(values, shape, device), dtype).value();
      };
      for (const ReachCase& r : kReachCases) {
        const int64_t channels = r.x[3];
        const Tensor w = halves_of(r.w()), x = halves_of(r.x), dy = halves_of(r.y());
        for (const int64_t of_x : {int64_t(0), r.x[2] + 3, r.x[1] * r.x[2] - 1})
          for (const int64_t channel : {int64_t(0), channels - 1}) {
            const Tensor bad = infinite_at(r.x, of_x * channels + channel);
            const Touches touches = [&](int64_t pixel, int64_t) { return r.taps(pixel, of_x); };
            expect_reaches(conv2d_forward, device, r.filters, touches, [&] {
              Tensor y = Tensor::empty(r.y(), dtype, device);
              conv2d_forward(c, bad, w, r.params, {}, y);
              return y;
            });
            expect_reaches(
                conv2d_backward_weight, device, channels,
                [&](int64_t row, int64_t i) {
                  if (i != channel) return false;
                  const int64_t down = row / r.side % r.side, right = row % r.side;
                  const int64_t h = of_x / r.x[2] + r.params.padding - down,
                                v = of_x % r.x[2] + r.params.padding - right, stride = r.params.stride;
                  return h >= 0 && v >= 0 && h % stride == 0 && v % stride == 0 && h / stride < r.y()[1] &&
                         v / stride < r.y()[2];
                },
                [&] {
                  Tensor dw = Tensor::empty(r.w(), dtype, device);
                  conv2d_backward_weight(c, bad, dy, r.params, dw);
                  return dw;
                });
          }
        const int64_t pixel = r.y()[2] + 1;
        const Tensor bad = infinite_at(r.y(), pixel * r.filters);
        expect_reaches(
            conv2d_backward_input, device, channels,
            [&](int64_t of_x, int64_t) { return r.taps(pixel, of_x); },
            [&] {
              Tensor dx = empty_like(x);
              conv2d_backward_input(c, bad, w, r.params, dx);
              return dx;
            });
      }
      for (const int64_t channels : {8, 16, 24, 48}) {
        const Shape shape{2, 7, 9, channels};
        const ReachCase three{shape, 24, 3, {1, 1, 1}};
        const Tensor x = infinite_at(shape, 20 * channels), w1 = halves_of({16, 1, 1, channels}),
                     w3 = halves_of(three.w()), b1 = halves({16}, device), b3 = halves({24}, device);
        expect_reaches(
            fire_expand_forward, device, 40,
            [&](int64_t pixel, int64_t k) { return k < 16 ? pixel == 20 : three.taps(pixel, 20); },
            [&] {
              Tensor y = Tensor::empty(shape.with(-1, 40), dtype, device);
              fire_expand_forward(c, x, w1, b1, w3, b3, nullptr, nullptr, y);
              return y;
            });
      }
    }
}

}  // namespace
}  // namespace plume::test
