#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "engine/core/graph.h"
#include "engine/modules/layers.h"
#include "engine/ops/cast.h"
#include "engine/ops/conv2d.h"
#include "engine/ops/softmax_cross_entropy.h"
#include "engine/optim/ema.h"
#include "engine/optim/schedule.h"
#include "engine/optim/sgd.h"
#include "models/registry.h"
#include "tests/support/networks.h"

namespace plume::optim_test {
namespace {

TEST(CosineSchedule, WarmsUpLinearlyThenFollowsTheCosine) {
  const CosineSchedule s{.base = 0.4f, .warmup_steps = 4, .total_steps = 104, .final_fraction = 0.0f};
  EXPECT_FLOAT_EQ(s.at(0), 0.1f);
  EXPECT_FLOAT_EQ(s.at(3), 0.4f);
  EXPECT_FLOAT_EQ(s.at(4), 0.4f);
  EXPECT_NEAR(s.at(54), 0.2f, 1e-6);
  EXPECT_NEAR(s.at(104), 0.0f, 1e-7);
  for (int64_t step = 5; step < 104; ++step) EXPECT_LT(s.at(step), s.at(step - 1)) << step;
}

TEST(CosineSchedule, StopsAtTheFinalFraction) {
  const CosineSchedule s{.base = 1.0f, .warmup_steps = 0, .total_steps = 10, .final_fraction = 0.1f};
  EXPECT_FLOAT_EQ(s.at(0), 1.0f);
  EXPECT_NEAR(s.at(10), 0.1f, 1e-6);
  EXPECT_NEAR(s.at(1000), 0.1f, 1e-6);
}

class OneLayer : public Module {
 public:
  OneLayer() {
    register_parameter("weight", weight);
    register_parameter("bias", bias);
  }
  Variable forward(const Variable& x) override { return x; }
  Variable weight{Tensor::from(std::vector<float>{1.0f, -2.0f}, {2, 1}), true};
  Variable bias{Tensor::from(std::vector<float>{3.0f}, {1}), true};
};

void set_gradients(OneLayer& m) {
  m.weight.grad() = Tensor::from(std::vector<float>{0.5f, 0.25f}, {2, 1});
  m.bias.grad() = Tensor::from(std::vector<float>{-1.0f}, {1});
}

// Three steps by hand, in double.
double after_three_steps(double value, double gradient, double rate, double momentum, double decay,
                         bool nesterov) {
  double velocity = 0;
  for (int step = 0; step < 3; ++step) {
    const double g = gradient + decay * value;
    velocity = momentum * velocity + g;
    value -= rate * (nesterov ? g + momentum * velocity : velocity);
  }
  return value;
}

TEST(Sgd, FollowsTheFormula) {
  for (const bool nesterov : {false, true}) {
    OneLayer m;
    Sgd sgd(m.parameters(), {.momentum = 0.9f, .weight_decay = 0.01f, .nesterov = nesterov});
    for (int step = 0; step < 3; ++step) {
      set_gradients(m);
      sgd.step(0.1f);
    }
    const auto w = m.weight.value().to_vector<float>();
    EXPECT_NEAR(w[0], after_three_steps(1.0, 0.5, 0.1, 0.9, 0.01, nesterov), 1e-6);
    EXPECT_NEAR(w[1], after_three_steps(-2.0, 0.25, 0.1, 0.9, 0.01, nesterov), 1e-6);
    EXPECT_NEAR(m.bias.value().to_vector<float>()[0], after_three_steps(3.0, -1.0, 0.1, 0.9, 0.01, nesterov),
                1e-6);
  }
}

TEST(Sgd, SparesNormsAndBiasesFromDecayOnRequest) {
  OneLayer m;
  Sgd sgd(m.parameters(), {.momentum = 0.0f, .weight_decay = 0.5f, .decay_norms_and_biases = false});
  set_gradients(m);
  sgd.step(1.0f);
  EXPECT_NEAR(m.weight.value().to_vector<float>()[0], 1.0 - (0.5 + 0.5), 1e-6);
  EXPECT_NEAR(m.bias.value().to_vector<float>()[0], 4.0, 1e-6);
}

TEST(Sgd, LeavesParametersWithoutAGradientAlone) {
  OneLayer m;
  Sgd sgd(m.parameters(), {.momentum = 0.9f, .weight_decay = 0.1f});
  m.weight.grad() = Tensor::from(std::vector<float>{1.0f, 1.0f}, {2, 1});
  sgd.step(0.1f);
  EXPECT_EQ(m.bias.value().to_vector<float>()[0], 3.0f);
  EXPECT_NE(m.weight.value().to_vector<float>()[0], 1.0f);
}

TEST(Sgd, StateHoldsVelocitiesAndTheControl) {
  OneLayer m;
  Sgd sgd(m.parameters(), {.momentum = 0.9f});
  set_gradients(m);
  sgd.step(0.1f);
  const auto state = sgd.state();
  ASSERT_EQ(state.size(), 3u);
  EXPECT_EQ(state[0].name, "velocity.weight");
  EXPECT_FLOAT_EQ(state[0].tensor->to_vector<float>()[1], 0.25f);
  EXPECT_EQ(state[2].name, "control");
  EXPECT_EQ(control_of(std::as_const(*state[2].tensor))->steps, 1.0f);
}

TEST(Sgd, NesterovNeedsMomentum) {
  OneLayer m;
  EXPECT_THROW(Sgd(m.parameters(), {.momentum = 0.0f, .nesterov = true}), Error);
}

TEST(Optimizer, DefaultsAreThoseOfTheSources) {
  EXPECT_EQ(default_options("adamw").weight_decay, 0.01);
  EXPECT_EQ(default_options("adam").weight_decay, 0.0);
  EXPECT_EQ(default_options("rmsprop").epsilon, 1e-8);
  EXPECT_EQ(default_options("rmsprop_tf").epsilon, 1e-10);
  for (const std::string& word : optimizer_names()) EXPECT_EQ(name(default_options(word).algorithm), word);
  EXPECT_THROW(default_options("lion"), Error);
}

TEST(Optimizer, RefusesOptionsWithoutSense) {
  OneLayer m;
  const auto refused = [&](OptimizerOptions o) { EXPECT_THROW(Optimizer(m.parameters(), o), Error); };
  refused({.momentum = 1});
  refused({.algorithm = Algorithm::adam, .beta2 = 1});
  refused({.algorithm = Algorithm::adam, .nesterov = true});
  refused({.weight_decay = -1});
  refused({.clip_norm = NAN});
  refused({.loss_scaling = {.enabled = true, .initial = 0}});
  refused({.loss_scaling = {.enabled = true, .backoff = 1}});
  Optimizer fine(m.parameters(), {});
  EXPECT_THROW(fine.prepare(0.1f, 0), Error);
}

TEST(Optimizer, GroupsHaveTheirOwnRateAndDecay) {
  OneLayer m;
  const auto all = m.parameters();
  Optimizer sgd({{{all[0]}, 0.5f, 0.0}, {{all[1]}, 1.0f, {}}}, {.weight_decay = 0.5});
  set_gradients(m);
  sgd.step(1.0f);
  EXPECT_FLOAT_EQ(m.weight.value().to_vector<float>()[0], 1.0f - 0.5f * 0.5f);
  EXPECT_FLOAT_EQ(m.bias.value().item(), 3.0f - (-1.0f + 0.5f * 3.0f));
}

TEST(Optimizer, StateResumesBitForBit) {
  for (const std::string& word : optimizer_names()) {
    OptimizerOptions options = default_options(word);
    options.loss_scaling = {.enabled = true, .interval = 3};
    OneLayer a, b;
    Optimizer first(a.parameters(), options), second(b.parameters(), options);
    const auto steps = [](OneLayer& m, Optimizer& o, int count) {
      for (int i = 0; i < count; ++i) {
        set_gradients(m);
        o.step(0.1f);
      }
    };
    steps(a, first, 5);
    b.weight.value().copy_from(a.weight.value());
    b.bias.value().copy_from(a.bias.value());
    const auto from = first.state(), to = second.state();
    for (size_t i = 0; i < from.size(); ++i) {
      EXPECT_EQ(from[i].name, to[i].name);
      to[i].tensor->copy_from(*from[i].tensor);
    }
    steps(a, first, 5);
    steps(b, second, 5);
    EXPECT_EQ(a.weight.value().to_vector<float>(), b.weight.value().to_vector<float>()) << word;
    EXPECT_EQ(second.status().steps, 10.0f);
    EXPECT_EQ(second.status().loss_scale, 65536.0f * 8);
  }
}

TEST(LossScaling, SkipsAndGivesUp) {
  for (const Device device : {Device::cpu, Device::simt}) {
    OneLayer m;
    m.to(device);
    OptimizerOptions options = default_options("adam");
    options.loss_scaling.enabled = true;
    Optimizer adam(m.parameters(), options);
    EXPECT_EQ(adam.loss_scale().item(), 65536.0f);
    const auto step = [&](float gradient) {
      m.weight.grad() = Tensor::from(std::vector<float>{1, 1}, {2, 1}, device);
      m.bias.grad() = Tensor::from(std::vector<float>{gradient}, {1}, device);
      adam.step(0.1f);
    };
    for (int i = 1; i <= kMostSkippedInARow; ++i) {
      EXPECT_NO_THROW(adam.check());
      step(i % 2 ? INFINITY : NAN);
      EXPECT_EQ(adam.status().skipped, float(i));
    }
    EXPECT_EQ(m.weight.value().to_vector<float>(), (std::vector<float>{1, -2}));  // a half-finite step too
    EXPECT_EQ(adam.state()[0].tensor->to_vector<float>(), (std::vector<float>{0, 0}));
    EXPECT_EQ(adam.loss_scale().item(), 0x1p-4f);
    EXPECT_THROW(adam.check(), Error);
    step(1);
    EXPECT_NO_THROW(adam.check());
    EXPECT_EQ(adam.status().steps, 1.0f);
    // Adam's first step, however the loss was scaled: the corrections count the steps taken.
    EXPECT_NEAR(m.weight.value().to_vector<float>()[0], 0.9f, 1e-5);
  }
}

TEST(Optimizer, AReplayedStepReadsWhatWasPrepared) {
  OneLayer m;
  Optimizer sgd(m.parameters(), {});
  Ema ema(m);
  StepGraph graph;
  set_gradients(m);
  graph.capture(context(Device::cpu), [&] {
    sgd.apply();
    ema.apply();
  });
  for (const float rate : {1.0f, 2.0f}) {
    sgd.prepare(rate);
    ema.prepare(0.5);
    graph.replay();
  }
  EXPECT_FLOAT_EQ(m.bias.value().item(), 3 + 1 + 2);
  EXPECT_FLOAT_EQ(ema.state()[1].tensor->item(), 0.5f * (0.5f * (3 + 4)) + 0.5f * 6);
}

// The 16-bit weights that a step writes are those that a cast would give, skipped steps and averages between.
TEST(Optimizer, WritesTheShortWeightsOfTheNextStep) {
  const auto train = [](Device device, DType dtype, bool forget) {
    Conv2d layer(3, 8, 3, {.padding = 1});
    RandomSequence random(3);
    layer.initialize(random);
    layer.to(device);
    OptimizerOptions options = default_options("adamw");
    options.loss_scaling = {.enabled = true, .initial = 8};
    Optimizer optimizer(layer.parameters(), options);
    Ema ema(layer);
    const Variable x = cast(Variable(test::random_images(2, 4).to(device)), dtype);
    std::vector<float> bits;
    for (int step = 0; step < 4; ++step) {
      const Variable y = layer(x);
      optimizer.zero_grad();
      // An infinite gradient in step 1: that step is skipped.
      Tensor dy = Tensor::zeros(y.shape(), DType::f32, Device::cpu);
      dy.data<float>()[7] = step == 1 ? INFINITY : 8.0f;
      backward(y, cast(dy.to(device), dtype).value());
      optimizer.step(0.1f);
      EXPECT_NE(right_cast(layer.weight), nullptr);
      if (forget) layer.weight.value().raw();
      const auto note = [&] {
        for (const float v : cast(layer(x), DType::f32).value().to_vector<float>()) bits.push_back(v);
      };
      note();  // by the weights that the step wrote
      ema.update(0.5);
      const AveragedWeights averaged(ema);
      note();
    }
    EXPECT_EQ(optimizer.status().skipped, 1);
    for (const float v : layer.weight.value().to_vector<float>()) bits.push_back(v);
    return bits;
  };
  for (const Device device : {Device::cpu, Device::simt})
    for (const DType dtype : {DType::bf16, DType::f16})
      EXPECT_EQ(train(device, dtype, false), train(device, dtype, true))
          << name(device) << ' ' << name(dtype);
}

TEST(FineTuning, FrozenParametersCostNoWork) {
  const auto model = make_model("shufflenet_v2_x0_5", {.num_classes = 10});
  EXPECT_THROW(fine_tuning_groups(model->parameters(), {"head."}, 0.1f), Error);
  Optimizer optimizer(fine_tuning_groups(model->parameters(), {"fc."}, 0), default_options("adam"));
  EXPECT_EQ(optimizer.state().size(), 5u);  // of fc.weight, fc.bias; the control
  const auto runs = [](const KernelSlotBase& slot) {
    uint64_t sum = 0;
    for (int i = 0; i < slot.variant_count(Device::cpu); ++i) sum += slot.runs(Device::cpu, i);
    return sum;
  };
  const uint64_t before = runs(conv2d_backward_weight) + runs(conv2d_backward_input);
  const Variable loss = softmax_cross_entropy(model->forward(Variable(test::random_images(2, 32))),
                                              {Tensor::from(std::vector<int32_t>{1, 2}, {2}), {}});
  backward(loss, optimizer.loss_scale());
  EXPECT_EQ(runs(conv2d_backward_weight) + runs(conv2d_backward_input), before);
  for (const NamedParameter& p : model->parameters())
    EXPECT_EQ(p.variable.grad().defined(), p.name.starts_with("fc.")) << p.name;
  const std::vector<float> frozen = model->parameters()[0].variable.value().to_vector<float>();
  optimizer.step(0.1f);
  EXPECT_EQ(model->parameters()[0].variable.value().to_vector<float>(), frozen);
}

TEST(EmaTest, AveragesStatisticsAndCopiesCounters) {
  const auto model = make_model("shufflenet_v2_x0_5", {.num_classes = 10});
  Ema ema(*model);
  const NoGrad no_grad;
  for (int i = 0; i < 3; ++i) model->forward(Variable(test::random_images(2, 32)));
  std::map<std::string, std::vector<float>> start;
  for (const NamedTensor& e : ema.state())
    if (e.name.ends_with("running_mean")) start[e.name] = e.tensor->to_vector<float>();
  ema.update(0.75);
  const auto own = model->state(), averages = ema.state();
  int counters = 0, means = 0;
  for (size_t i = 0; i < own.size(); ++i) {
    ASSERT_EQ(own[i].name, averages[i].name);
    if (own[i].tensor->dtype() != DType::f32) {
      EXPECT_EQ(averages[i].tensor->to_vector<int64_t>()[0], 3);
      ++counters;
    } else if (own[i].name.ends_with("running_mean")) {
      const float value = own[i].tensor->to_vector<float>()[0];
      EXPECT_FLOAT_EQ(averages[i].tensor->to_vector<float>()[0],
                      0.75f * start[own[i].name][0] + 0.25f * value);
      ++means;
    }
  }
  EXPECT_GT(counters, 0);
  EXPECT_GT(means, 0);
}

TEST(EmaTest, DecayFollowsTheDataSet) {
  // torchvision: alpha = (1 - 0.99998) * 128 * 32 / 600
  EXPECT_NEAR(scaled_ema_decay(0.99998, 128, 32, 600, 1'281'167), 1 - 2e-5 * 128 * 32 / 600, 1e-12);
  EXPECT_NEAR(scaled_ema_decay(0.99998, 128, 1, 50, 50'000), 1 - 2e-5 * 128 / 50 * 1'281'167 / 50'000, 1e-9);
  EXPECT_EQ(scaled_ema_decay(0.5, 128, 32, 1, 100), 0.0);
  EXPECT_THROW(scaled_ema_decay(2, 1, 1, 1, 1), Error);
}

}  // namespace
}  // namespace plume::optim_test
