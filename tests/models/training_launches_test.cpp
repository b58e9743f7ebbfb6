// How many kernels a training step and a pass of inference launch, on the emulator in bf16: on a GPU each
// costs some two microseconds, whatever it does. The figures of the tables may only fall.
#include <gtest/gtest.h>

#include <map>

#include "engine/core/context.h"
#include "engine/core/kernel_call.h"
#include "engine/ops/batch_metrics.h"
#include "engine/ops/cast.h"
#include "engine/ops/layer_random.h"
#include "engine/ops/softmax_cross_entropy.h"
#include "engine/optim/sgd.h"
#include "engine/profiler/kernel_counts.h"
#include "models/registry.h"
#include "tests/support/networks.h"

namespace plume::training_launches_test {
namespace {

// Launches by slot; those of calls within calls belong to the outer one.
class LaunchWatch : public LaunchObserver {
 public:
  explicit LaunchWatch(Context& context) : context_(context) { context.set_observer(this); }
  ~LaunchWatch() override { context_.set_observer(nullptr); }
  LaunchWatch(const LaunchWatch&) = delete;
  LaunchWatch& operator=(const LaunchWatch&) = delete;

  std::string table() const {
    std::string text;
    for (const auto& [slot, launches] : by_slot_) text += message("{} {}\n", slot, launches);
    return text;
  }

 private:
  static uint64_t now() { return kernel_counter(Device::simt).launches(); }
  void begin(const KernelCall&) override {
    if (depth_++ == 0) before_ = now();
  }
  void end(const KernelCall& call) override {
    if (--depth_ == 0) by_slot_[call.slot()] += now() - before_;
  }

  Context& context_;
  int depth_ = 0;
  uint64_t before_ = 0;
  std::map<std::string, uint64_t> by_slot_;
};

struct Network {
  const char* name;
  uint64_t launches;
};
void PrintTo(const Network& network, std::ostream* out) { *out << network.name; }

class TrainingLaunches : public testing::TestWithParam<Network> {};
class InferenceLaunches : public testing::TestWithParam<Network> {};

void expect_launches(uint64_t launches, const LaunchWatch& watch) {
  const uint64_t known = testing::WithParamInterface<Network>::GetParam().launches;
  EXPECT_LE(launches, known) << watch.table();
  EXPECT_GE(launches, known) << "fewer: lower the figure in this file";
}

// As tools/training/step.cpp takes it.
TEST_P(TrainingLaunches, AreNoMoreThanEver) {
  const Device device = Device::simt;
  Context& context = plume::context(device);
  const auto model = make_model(GetParam().name, {.num_classes = 10});
  model->to(device);
  Sgd sgd(model->parameters(), {.momentum = 0.9f, .weight_decay = 5e-4f});
  const Variable images(test::random_images(2, 32).to(device));
  const Tensor labels = Tensor::from(std::vector<int32_t>{3, 1}, {2}, device);
  Tensor sums = batch_metrics_sums(device);

  const auto step = [&](int64_t number) {
    layer_random().begin_step(number);
    sgd.prepare(0.01f);
    const Variable logits = (*model)(cast(images, DType::bf16));
    const Variable loss = softmax_cross_entropy(logits, {labels, {}});
    batch_metrics(loss.value(), logits.value(), labels, sums);
    sgd.zero_grad();
    backward(loss, sgd.loss_scale());
    sgd.apply();
  };
  step(0);  // what is made once
  const LaunchWatch watch(context);
  const uint64_t before = kernel_counter(device).launches();
  step(1);
  expect_launches(kernel_counter(device).launches() - before, watch);
}

// Batch norms folded.
TEST_P(InferenceLaunches, AreNoMoreThanEver) {
  const NoGrad no_grad;
  const Device device = Device::simt;
  const auto model = make_model(GetParam().name, {.num_classes = 10});
  model->to(device);
  model->eval();
  model->fuse();
  const Variable images = cast(Variable(test::random_images(2, 32).to(device)), DType::bf16);
  model->forward(images);  // what is made once
  const LaunchWatch watch(plume::context(device));
  const uint64_t before = kernel_counter(device).launches();
  model->forward(images);
  expect_launches(kernel_counter(device).launches() - before, watch);
}

INSTANTIATE_TEST_SUITE_P(Networks, TrainingLaunches,
                         testing::Values(Network{"mobilenet_v3_small", 149}, Network{"resnet18", 81},
                                         Network{"squeezenet1_1", 80}, Network{"efficientnet_v2_s", 446},
                                         Network{"shufflenet_v2_x1_0", 198}),
                         [](const auto& network) { return std::string(network.param.name); });
INSTANTIATE_TEST_SUITE_P(Networks, InferenceLaunches,
                         testing::Values(Network{"mobilenet_v3_small", 45}, Network{"resnet18", 21},
                                         Network{"squeezenet1_1", 21}, Network{"efficientnet_v2_s", 141},
                                         Network{"shufflenet_v2_x1_0", 54}),
                         [](const auto& network) { return std::string(network.param.name); });

}  // namespace
}  // namespace plume::training_launches_test
