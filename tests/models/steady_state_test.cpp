// After its first passes a network asks the system for no more memory: every tensor comes from a kept block.
#include <gtest/gtest.h>

#include "engine/memory/allocator.h"
#include "engine/ops/layer_random.h"
#include "engine/ops/softmax_cross_entropy.h"
#include "engine/optim/sgd.h"
#include "models/registry.h"
#include "tests/support/networks.h"

namespace plume::steady_state_test {
namespace {

constexpr int kWarmUp = 3, kPasses = 3;

class SteadyState : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
#if defined(__SANITIZE_ADDRESS__)
    GTEST_SKIP() << "under the address sanitizer nothing is kept";
#endif
  }
};

template <class Pass>
void expect_no_growth(const Pass& pass) {
  for (int i = 0; i < kWarmUp; ++i) pass();
  const MemoryStatistics before = device_allocator(Device::cpu).statistics();
  for (int i = 0; i < kPasses; ++i) pass();
  const MemoryStatistics after = device_allocator(Device::cpu).statistics();
  EXPECT_GT(after.requests, before.requests);
  EXPECT_EQ(after.requests - after.cache_hits, before.requests - before.cache_hits) << "went to the system";
  EXPECT_EQ(after.reserved, before.reserved);
  EXPECT_EQ(after.current, before.current);
}

TEST_P(SteadyState, OfInference) {
  const NoGrad no_grad;
  const auto model = make_model(GetParam(), {.num_classes = 10});
  model->eval();
  model->fuse();
  const Variable images(test::random_images(2, 64));
  expect_no_growth([&] { model->forward(images); });
}

TEST_P(SteadyState, OfTraining) {
  const auto model = make_model(GetParam(), {.num_classes = 10});
  Sgd sgd(model->parameters(), {.momentum = 0.9f, .weight_decay = 5e-4f});
  const Variable images(test::random_images(4, 64));
  const std::vector<int32_t> labels = {0, 1, 2, 3};
  const Tensor target = Tensor::from(labels, {4}, Device::cpu);
  int step = 0;
  expect_no_growth([&] {
    layer_random().begin_step(++step);
    const Variable loss = softmax_cross_entropy(model->forward(images), {target, {}});
    sgd.zero_grad();
    backward(loss);
    sgd.step(0.01f);
  });
}

INSTANTIATE_TEST_SUITE_P(Networks, SteadyState,
                         testing::Values("mobilenet_v3_small", "resnet18", "squeezenet1_1",
                                         "efficientnet_v2_s", "shufflenet_v2_x1_0"),
                         [](const auto& network) { return std::string(network.param); });

}  // namespace
}  // namespace plume::steady_state_test
