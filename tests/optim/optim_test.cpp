#include <gtest/gtest.h>

#include <cmath>

#include "engine/optim/schedule.h"
#include "engine/optim/sgd.h"

namespace plume {
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

}  // namespace
}  // namespace plume
