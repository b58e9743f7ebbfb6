// A NaN is not swallowed by a relu, alone or fused: a loss that is not finite must be seen. The fused ones of
// cuDNN and cuBLASLt are asked where a GPU answers: nothing documents what they do.
#include <gtest/gtest.h>

#include <cmath>

#include "engine/ops/activation.h"
#include "engine/ops/batch_norm.h"
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

// Runs `call` by every variant of the slot that fits, and looks for the NaN at `place` of what it returns.
template <class Slot, class Call>
void expect_nan_passes(Slot& slot, Device device, int64_t place, const Call& call) {
  int ran = 0;
  for (int i = 0; i < slot.variant_count(device); ++i) {
    const std::string variant = slot.variant_name(device, i);
    if (!is_under_test(variant)) continue;
    slot.force(device, variant);
    const std::string where = message("{} {} on {}", slot.name(), variant, device);
    try {
      const std::vector<float> y = call().template to_vector<float>();
      EXPECT_TRUE(std::isnan(y[size_t(place)])) << where << ": " << y[size_t(place)];
      ++ran;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::usage) << where << ": " << error.what();  // it does not fit
    }
    slot.force(device, "");
  }
  EXPECT_GT(ran, 0) << slot.name() << " on " << name(device);
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

}  // namespace
}  // namespace plume::test
