#include "engine/core/graph.h"

#include <gtest/gtest.h>

#include <memory>
#include <stdexcept>

#include "engine/core/error.h"
#include "engine/core/tensor.h"
#include "engine/memory/allocator.h"
#include "engine/ops/add.h"
#include "engine/ops/relu.h"

namespace plume::test::graph_test {
namespace {

class GraphTest : public testing::TestWithParam<Device> {
 protected:
  void SetUp() override {
    if (GetParam() == Device::cuda && !cuda_available()) GTEST_SKIP() << cuda_unavailable_reason();
  }
  Context& context() { return plume::context(GetParam()); }
};

TEST_P(GraphTest, ReplayEqualsTheStepRunDirectly) {
  Tensor x = Tensor::from(std::vector<float>{-1, 2, -3, 4}, {4}, GetParam());
  Tensor y = Tensor::zeros({4}, DType::f32, GetParam());
  const auto step = [&] {
    Tensor twice = empty_like(x);  // freed inside the step: its memory must stay the graph's
    add_forward(context(), x, x, twice);
    relu_forward(context(), twice, y);
  };
  step();
  EXPECT_EQ(y.to_vector<float>(), (std::vector<float>{0, 4, 0, 8}));

  y.fill_zero();
  StepGraph graph;
  graph.capture(context(), step);
  EXPECT_EQ(y.to_vector<float>(), (std::vector<float>{0, 0, 0, 0})) << "capturing runs nothing";
  graph.replay();
  EXPECT_EQ(y.to_vector<float>(), (std::vector<float>{0, 4, 0, 8}));

  x.copy_from(Tensor::from(std::vector<float>{5, -6, 7, -8}, {4}));
  const Tensor bystander = Tensor::from(std::vector<float>{1, 1, 1, 1}, {4}, GetParam());
  graph.replay();
  EXPECT_EQ(y.to_vector<float>(), (std::vector<float>{10, 0, 14, 0}));
  EXPECT_EQ(bystander.to_vector<float>(), (std::vector<float>{1, 1, 1, 1}))
      << "a replay writes only to the graph's own memory";
}

TEST_P(GraphTest, ErrorInTheStepPassesThroughAndLeavesNoGraph) {
  StepGraph graph;
  EXPECT_THROW(
      {
        graph.capture(context(), [&] { fail(ErrorKind::numeric, "planned"); });
        graph.replay();
      },
      Error);
  graph.clear();
  // The device still works.
  const Tensor x = Tensor::from(std::vector<float>{-1, 1}, {2}, GetParam());
  Tensor y = empty_like(x);
  relu_forward(context(), x, y);
  EXPECT_EQ(y.to_vector<float>(), (std::vector<float>{0, 1}));
}

TEST_P(GraphTest, ReplayBeforeCaptureThrows) {
  StepGraph graph;
  EXPECT_THROW(graph.replay(), Error);
  graph.capture(context(), [] {});
  graph.replay();
  graph.clear();
  EXPECT_FALSE(graph.captured());
  EXPECT_THROW(graph.replay(), Error);
}

// The memory of a graph that goes while another step is recorded stays its own until it can be waited for.
TEST_P(GraphTest, GoesWhileAnotherStepIsRecorded) {
  if (!backend(GetParam()).begin_capture) GTEST_SKIP() << "nothing is recorded here";
  const Tensor x = Tensor::from(std::vector<float>{1, 2}, {2}, GetParam());
  Tensor y = empty_like(x);
  const auto step = [&] {
    const Tensor twice = empty_like(x);
    Tensor written = twice;
    add_forward(context(), x, x, written);
    relu_forward(context(), written, y);
  };
  const auto held = [&] { return device_allocator(GetParam()).statistics().held; };
  const size_t before = held();
  auto first = std::make_unique<StepGraph>();
  first->capture(context(), step);
  first->replay();
  const size_t of_first = held();
  EXPECT_GT(of_first, before);
  StepGraph second;
  second.capture(context(), [&] {
    first.reset();
    EXPECT_EQ(held(), of_first) << "a replay may still be running";
    relu_forward(context(), x, y);
  });
  EXPECT_EQ(held(), before);
  second.replay();
  EXPECT_EQ(y.to_vector<float>(), (std::vector<float>{1, 2}));
}

INSTANTIATE_TEST_SUITE_P(Devices, GraphTest, testing::Values(Device::cpu, Device::simt, Device::cuda),
                         [](const auto& device) { return std::string(name(device.param)); });

}  // namespace
}  // namespace plume::test::graph_test
