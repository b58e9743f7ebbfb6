#include "engine/ops/step_begin.h"

#include <gtest/gtest.h>

#include <cstring>

#include "tests/support/check_op.h"
#include "tests/support/coverage.h"

namespace plume::test {
namespace {

// Odd sizes; more tensors than a table of the kernels holds; more than one block.
void check_norm(const std::vector<int64_t>& sizes) {
  static std::vector<std::string> names;  // live as long as the operands that point to them
  names.reserve(400);
  while (names.size() < sizes.size()) names.push_back("gradient" + std::to_string(names.size()));
  std::vector<Operand> inputs;
  for (size_t i = 0; i < sizes.size(); ++i) inputs.push_back({names[i].c_str(), {sizes[i]}});
  check_op({.slot = gradient_norm,
            .label = message("{} tensors", sizes.size()),
            .inputs = inputs,
            .outputs = {{"norm", {1}}},
            .run =
                [&](Context& c, Tensors& t) {
                  std::vector<Tensor> gradients;
                  for (const Operand& o : inputs) gradients.push_back(t[o.name]);
                  gradient_norm(c, gradients, t["norm"]);
                },
            .reference =
                [&](Arrays& a) {
                  double sum = 0;
                  for (const Operand& o : inputs)
                    for (const Real& g : a[o.name].values) sum += g.value * g.value;
                  a["norm"][0] = Real(std::sqrt(sum), std::sqrt(sum));
                },
            .dtypes = {DType::f32}});
}

TEST(GradientNormTest, OddSizes) {
  for (const std::vector<int64_t>& sizes :
       {std::vector<int64_t>{1}, {3}, {4097}, {1, 3, 17, 64, 31, 1025, 7, 4096, 5000, 20001}})
    check_norm(sizes);
}
TEST(GradientNormTest, ManyTensors) {
  std::vector<int64_t> sizes;
  for (int64_t i = 0; i < 300; ++i) sizes.push_back(1 + i % 13);
  check_norm(sizes);
}

float norm_of(Device device, const std::vector<float>& values) {
  Tensor norm = Tensor::zeros({1}, DType::f32, device);
  gradient_norm(context(device), {Tensor::from(values, {int64_t(values.size())}, device)}, norm);
  return norm.item();
}

TEST(GradientNormTest, IsNotFiniteWhenAGradientIsNot) {
  for (const Device device : devices_under_test()) {
    std::vector<float> values(5001, 1.0f);
    for (const float odd : {INFINITY, -INFINITY, NAN}) {
      values[4999] = odd;
      EXPECT_FALSE(std::isfinite(norm_of(device, values))) << name(device);
    }
    values[4999] = 1e30f;  // its square is beyond float
    EXPECT_FLOAT_EQ(norm_of(device, values), 1e30f) << name(device);
  }
}

// One step's beginning on the device under test, the same by each of its variants.
StepControl begun(Device device, const StepControl& before, float learning_rate, float passes, float norm,
                  const StepRules& rules) {
  std::vector<StepControl> results;
  for (int i = 0; i < step_begin.variant_count(device); ++i) {
    const char* variant = step_begin.variant_name(device, i);
    Tensor control = Tensor::from_bytes(&before, {kStepNumbers}, DType::f32, device);
    step_begin.force(device, variant);
    step_begin(context(device), Tensor::from(std::vector<float>{learning_rate, passes}, {2}, device),
               Tensor::from(std::vector<float>{norm}, {1}, device), rules, control);
    step_begin.force(device, "");
    remember_run(step_begin.name(), device, variant);
    const Tensor host = control.to(Device::cpu);
    results.push_back(*control_of(host));
    EXPECT_EQ(std::memcmp(&results.front(), &results.back(), sizeof(StepControl)), 0) << variant;
  }
  return results.front();
}

// The rule again, with vectors of what it should give.
TEST(StepBeginTest, CountsAndCorrects) {
  for (const Device device : devices_under_test()) {
    StepControl c;
    for (int step = 1; step <= 5; ++step) {
      c = begun(device, c, 0.5f, 4, 0, {.beta1 = 0.9, .beta2 = 0.999});
      EXPECT_EQ(c.learning_rate, 0.5f);
      EXPECT_EQ(c.gradient_factor, 0.25f);
      EXPECT_EQ(c.gradient_limit, FLT_MAX);
      EXPECT_EQ(c.steps, float(step));
      EXPECT_FLOAT_EQ(c.first_correction, float(1 / (1 - std::pow(0.9, step))));
      EXPECT_FLOAT_EQ(c.second_correction, float(1 / std::sqrt(1 - std::pow(0.999, step))));
      EXPECT_EQ(c.skip, 0.0f);
    }
  }
}

TEST(StepBeginTest, ClipsByNorm) {
  for (const Device device : devices_under_test()) {
    const StepRules rules{.largest_norm = 2};
    StepControl c = begun(device, {}, 1, 1, 8, rules);
    EXPECT_FLOAT_EQ(c.gradient_norm, 8);
    EXPECT_FLOAT_EQ(c.gradient_factor, 2 / 8.000001f);
    c = begun(device, {}, 1, 4, 4, rules);  // the mean's norm is 1
    EXPECT_FLOAT_EQ(c.gradient_norm, 1);
    EXPECT_FLOAT_EQ(c.gradient_factor, 0.25f);
    c = begun(device, {}, 1, 1, NAN, rules);  // nobody asked for steps to be skipped
    EXPECT_TRUE(std::isnan(c.gradient_factor));
    EXPECT_EQ(c.skip, 0.0f);
  }
}

TEST(StepBeginTest, ClipsByValue) {
  for (const Device device : devices_under_test())
    EXPECT_EQ(begun(device, {}, 1, 1, 0, {.largest_value = 0.5f}).gradient_limit, 0.5f);
}

TEST(StepBeginTest, ScalesTheLoss) {
  const StepRules rules{.beta1 = 0.9, .beta2 = 0.99, .scaling = {.enabled = true, .interval = 3}};
  for (const Device device : devices_under_test()) {
    StepControl c{.loss_scale = 65536};
    const auto step = [&](float norm) { c = begun(device, c, 1, 2, norm, rules); };
    step(65536);
    EXPECT_EQ(c.gradient_factor, 0.5f / 65536);
    EXPECT_EQ(c.gradient_norm, 0.5f);
    for (const float odd : {INFINITY, NAN}) {
      const float scale = c.loss_scale, skipped = c.skipped;
      step(odd);
      EXPECT_EQ(c.skip, 1.0f);
      EXPECT_EQ(c.steps, 1.0f);
      EXPECT_EQ(c.loss_scale, scale / 2);
      EXPECT_EQ(c.skipped, skipped + 1);
    }
    EXPECT_EQ(c.skipped_in_a_row, 2.0f);
    for (int i = 0; i < 2; ++i) step(1);
    EXPECT_EQ(c.loss_scale, 16384.0f);
    EXPECT_EQ(c.skipped_in_a_row, 0.0f);
    step(1);
    EXPECT_EQ(c.loss_scale, 32768.0f);
    EXPECT_EQ(c.gradient_factor, 0.5f / 16384);  // this step's gradients were scaled by the old one
    EXPECT_EQ(c.steps_at_scale, 0.0f);
    EXPECT_EQ(c.steps, 4.0f);
  }
}

TEST(StepBeginTest, NeverLetsTheScaleOverflow) {
  const StepRules rules{.scaling = {.enabled = true, .interval = 1}};
  for (const Device device : devices_under_test())
    EXPECT_EQ(begun(device, {.loss_scale = 0x1p127f}, 1, 1, 1, rules).loss_scale, 0x1p127f);
}

}  // namespace
}  // namespace plume::test
