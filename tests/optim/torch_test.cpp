// Optimisers, schedules and averages against PyTorch: fixtures/optim.safetensors, written by
// fixtures/make_optim.py, which says what it holds.
#include <gtest/gtest.h>

#include <cmath>

#include "engine/core/thread_pool.h"
#include "engine/optim/ema.h"
#include "engine/optim/optimizer.h"
#include "engine/optim/schedule.h"
#include "engine/serialization/safetensors.h"
#include "tests/support/networks.h"
#include "tests/support/test_support.h"

namespace plume::torch_test {
namespace {

constexpr int kSteps = 20;

std::vector<float> want(const std::string& name) {
  static const SafetensorsFile file(test::fixture("optim.safetensors"));
  const TensorInfo* info = file.find(name);
  PLUME_CHECK(info != nullptr, "{}: there is no {}", file.path(), name);
  return file.read(*info).to_vector<float>();
}

Tensor numbers(const std::string& name, const Shape& shape, Device device) {
  std::vector<float> values;
  for (const double v : test::fixture_uniform(name, shape.elements())) values.push_back(float(v));
  return Tensor::from(values, shape, device);
}

class OneLayer : public Module {
 public:
  explicit OneLayer(Device device)
      : weight(numbers("weight", {7, 5}, device), true), bias(numbers("bias", {5}, device), true) {
    register_parameter("weight", weight);
    register_parameter("bias", bias);
  }
  Variable forward(const Variable& x) override { return x; }
  void set_gradients(int step, float scale = 1) {
    for (const auto& [name, parameter] : {std::pair{"weight", &weight}, std::pair{"bias", &bias}}) {
      std::vector<float> g;
      for (const double v :
           test::fixture_uniform("gradient" + std::to_string(step) + "." + name, parameter->value().size()))
        g.push_back(scale * float(v));
      parameter->grad() = Tensor::from(g, parameter->shape(), parameter->device());
    }
  }
  Variable weight, bias;
};

void expect_near(const std::vector<float>& got, const std::vector<float>& expected, double tolerance,
                 const std::string& what) {
  ASSERT_EQ(got.size(), expected.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], expected[i], tolerance) << what << ' ' << i;
}

void expect_parameters(OneLayer& m, const std::string& name) {
  expect_near(m.weight.value().to_vector<float>(), want(name + ".weight"), 3e-6, name);
  expect_near(m.bias.value().to_vector<float>(), want(name + ".bias"), 3e-6, name);
}

OptimizerOptions options_of(const std::string& name) {
  const std::string algorithm = name.starts_with("sgd")         ? "sgd"
                                : name.starts_with("rmsprop_m") ? "rmsprop"
                                                                : name;
  OptimizerOptions options = default_options(algorithm);
  options.weight_decay = 0.01;
  if (name == "sgd" || name == "sgd_nesterov" || name == "rmsprop_momentum" || name == "rmsprop_tf")
    options.momentum = 0.9;
  options.nesterov = name == "sgd_nesterov";
  return options;
}

void run_steps(const OptimizerOptions& options, OneLayer& m) {
  Optimizer optimizer(m.parameters(), options);
  for (int step = 0; step < kSteps; ++step) {
    m.set_gradients(step);
    optimizer.step(0.01f);
  }
}

class AgainstTorch : public testing::TestWithParam<std::string> {};

TEST_P(AgainstTorch, TwentySteps) {
  for (const Device device : {Device::cpu, Device::simt}) {
    OneLayer m(device);
    run_steps(options_of(GetParam()), m);
    expect_parameters(m, GetParam());
  }
}

INSTANTIATE_TEST_SUITE_P(Optimizers, AgainstTorch,
                         testing::Values("sgd", "sgd_plain", "sgd_nesterov", "adam", "adamw", "rmsprop",
                                         "rmsprop_momentum", "rmsprop_tf"),
                         [](const auto& one) { return one.param; });

TEST(ClippingTest, FollowsTorch) {
  for (const Device device : {Device::cpu, Device::simt})
    for (const std::string name : {"sgd", "adam"}) {
      OptimizerOptions by_norm = options_of(name), by_value = by_norm;
      by_norm.clip_norm = 1;
      by_value.clip_value = 0.25;
      OneLayer first(device), second(device);
      run_steps(by_norm, first);
      expect_parameters(first, name + ".norm");
      run_steps(by_value, second);
      expect_parameters(second, name + ".value");
    }
}

TEST(ClippingTest, SeesUnscaledMeans) {
  OptimizerOptions options = options_of("adam");
  options.clip_norm = 1;
  options.loss_scaling.enabled = true;
  for (const Device device : {Device::cpu, Device::simt}) {
    OneLayer m(device);
    Optimizer optimizer(m.parameters(), options);
    for (int step = 0; step < kSteps; ++step) {
      m.set_gradients(step, 3 * optimizer.loss_scale().item());
      optimizer.step(0.01f, 3);
    }
    expect_parameters(m, "adam.norm");
  }
}

void expect_rates(const Schedule& schedule, const std::string& name) {
  const std::vector<float> rates = want("schedule." + name);
  EXPECT_GT(rates.size(), 100u);
  for (size_t i = 0; i < rates.size(); ++i)
    EXPECT_NEAR(rate_at(schedule, int64_t(i)), rates[i], 1e-6 * rates[i] + 1e-9) << name << ' ' << i;
}

TEST(ScheduleTest, FollowsTorch) {
  expect_rates(StepSchedule{.base = 0.4f, .period = 30, .factor = 0.2f}, "step");
  expect_rates(MultiStepSchedule{.base = 0.4f, .milestones = {40, 90}, .factor = 0.1f}, "multi_step");
  expect_rates(CosineSchedule{.base = 0.4f, .total_steps = 120}, "cosine");
  expect_rates(EpochCosineSchedule{.base = 0.4f, .warmup_epochs = 5, .epochs = 120, .final_fraction = 0.01f},
               "epoch_cosine");
  expect_rates(OneCycleSchedule{.peak = 0.4f, .total_steps = 121}, "one_cycle");
}

TEST(ScheduleTest, EpochsHoldTheirRate) {
  const EpochCosineSchedule s{.warmup_epochs = 2, .epochs = 9, .steps_per_epoch = 7};
  for (int64_t epoch = 0; epoch < 9; ++epoch) EXPECT_EQ(s.at(7 * epoch), s.at(7 * epoch + 6)) << epoch;
  EXPECT_NE(s.at(6), s.at(7));
  EXPECT_EQ(rate_at(ConstantSchedule{0.3f}, 12345), 0.3f);
}

TEST(ReduceOnPlateauTest, FollowsTorchAndResumes) {
  for (const std::string mode : {"min", "max"}) {
    const ReduceOnPlateau::Options options{.base = 0.4f,
                                           .maximise = mode == "max",
                                           .factor = 0.5,
                                           .least_rate = 0.001,
                                           .patience = 4,
                                           .cooldown = 3};
    ReduceOnPlateau plateau(options);
    const std::vector<float> metrics = want("plateau." + mode + ".metric"),
                             rates = want("plateau." + mode + ".rate");
    EXPECT_LT(rates.back(), 0.1f);
    for (size_t i = 0; i < metrics.size(); ++i) {
      ReduceOnPlateau resumed(options);  // goes on from the state alone
      resumed.restore(plateau.state());
      resumed.update(double(metrics[i]));
      plateau = resumed;
      EXPECT_NEAR(plateau.rate(), rates[i], 1e-7) << mode << ' ' << i;
    }
  }
}

TEST(EmaTest, FollowsTorchAndSwaps) {
  for (const Device device : {Device::cpu, Device::simt}) {
    OneLayer m(device);
    Ema ema(m);
    Optimizer sgd(m.parameters(), {});
    for (int step = 0; step < kSteps; ++step) {
      m.set_gradients(step);
      sgd.step(0.01f);
      ema.update(0.9);
    }
    const std::vector<float> own = m.weight.value().to_vector<float>();
    {
      const AveragedWeights averaged(ema);
      expect_parameters(m, "ema");
      EXPECT_THROW(ema.update(0.9), Error);
    }
    EXPECT_EQ(m.weight.value().to_vector<float>(), own);
    expect_near(ema.state()[0].tensor->to_vector<float>(), want("ema.weight"), 3e-6, "state");
  }
}

// Long tensors are split among threads.
TEST(ThreadsTest, DoNotChangeABit) {
  const auto run = [](int threads, const std::string& name) {
    set_compute_threads(threads);
    Variable parameter(numbers("parameter", {100'003}, Device::cpu), true);
    OptimizerOptions options = options_of(name);
    options.clip_norm = 1;
    Optimizer optimizer(std::vector<NamedParameter>{{"parameter", parameter}}, options);
    for (int step = 0; step < 3; ++step) {
      parameter.grad() = numbers("gradient" + std::to_string(step), {100'003}, Device::cpu);
      optimizer.step(0.1f);
    }
    return parameter.value().to_vector<float>();
  };
  for (const std::string name : {"sgd", "adamw", "rmsprop", "rmsprop_tf"})
    EXPECT_EQ(run(1, name), run(2, name)) << name;
  set_compute_threads(0);
}

}  // namespace
}  // namespace plume::torch_test
