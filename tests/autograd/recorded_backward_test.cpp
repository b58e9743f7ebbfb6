// A step may be recorded before it ever ran, where no library has to make a plan for it.
#include <gtest/gtest.h>

#include <thread>

#include "engine/autograd/tape.h"
#include "engine/core/graph.h"
#include "engine/ops/dropout.h"
#include "engine/ops/layer_random.h"
#include "engine/ops/relu.h"

namespace plume::test::recorded_backward_test {
namespace {

class RecordedBackwardTest : public testing::TestWithParam<Device> {
 protected:
  void SetUp() override {
    if (GetParam() == Device::cuda && !cuda_available()) GTEST_SKIP() << cuda_unavailable_reason();
  }
  // `step` recorded and replayed on a thread that has run nothing yet: its gradient, or the error.
  std::string first_step(const std::function<Variable(const Variable&)>& forward, float* gradient) {
    std::string error;
    std::thread([&] {
      try {
        layer_random().seed(1);
        Context& c = context(GetParam());
        const Variable x(Tensor::from(std::vector<float>{3}, {1}, GetParam()), true);
        StepGraph graph;
        graph.capture(c, [&] {
          Variable leaf = x;
          leaf.clear_grad();
          backward(forward(x));
        });
        graph.replay();
        *gradient = x.grad().item();
      } catch (const Error& e) {
        error = e.what();
      }
    }).join();
    return error;
  }
};

TEST_P(RecordedBackwardTest, TheFirstStep) {
  float gradient = 0;
  EXPECT_EQ(first_step([](const Variable& x) { return relu(x); }, &gradient), "");
  EXPECT_EQ(gradient, 1);
}

TEST_P(RecordedBackwardTest, TheFirstStepThatDrops) {
  float gradient = -1;
  EXPECT_EQ(first_step([](const Variable& x) { return dropout(x, 0.5f, true); }, &gradient), "");
  EXPECT_TRUE(gradient == 0 || gradient == 2) << gradient;
}

INSTANTIATE_TEST_SUITE_P(Devices, RecordedBackwardTest,
                         testing::Values(Device::cpu, Device::simt, Device::cuda),
                         [](const auto& device) { return std::string(name(device.param)); });

}  // namespace
}  // namespace plume::test::recorded_backward_test
