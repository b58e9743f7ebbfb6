// Whole networks on 1, 2, 3 and 8 threads: a training step and inference give the same bits.
#include <gtest/gtest.h>

#include "engine/core/thread_pool.h"
#include "engine/ops/layer_random.h"
#include "engine/ops/softmax_cross_entropy.h"
#include "engine/optim/sgd.h"
#include "models/registry.h"
#include "tests/support/networks.h"

namespace plume::threads_test {
namespace {

using NamedValues = std::vector<std::pair<std::string, std::vector<float>>>;

// On so many threads, which share out every loop of the size that they would on an idle machine, and with
// `smallest_pieces` all others too.
class OnThreads {
 public:
  OnThreads(int threads, bool smallest_pieces) {
    set_compute_threads(threads);
    share_every_loop(smallest_pieces);
  }
  ~OnThreads() {
    set_compute_threads(0);
    share_every_loop(false);
  }
  OnThreads(const OnThreads&) = delete;
  OnThreads& operator=(const OnThreads&) = delete;
};

class ThreadsDoNotChangeABit : public testing::TestWithParam<const char*> {};

NamedValues training_step_values(const std::string& network) {
  const auto model = make_model(network, {.num_classes = 10, .seed = 5});
  constexpr int kBatch = 6;
  std::vector<int32_t> labels;
  for (int i = 0; i < kBatch; ++i) labels.push_back(i % 10);
  Sgd sgd(model->parameters(), {.momentum = 0.9f, .weight_decay = 5e-4f});
  NamedValues values;
  layer_random().begin_step(1);
  const Variable loss = softmax_cross_entropy(model->forward(Variable(test::random_images(kBatch, 64))),
                                              {Tensor::from(labels, {kBatch}, Device::cpu), {}});
  sgd.zero_grad();
  backward(loss);
  values.emplace_back("loss", loss.value().to_vector<float>());
  for (const NamedParameter& p : model->parameters())
    values.emplace_back("gradient of " + p.name, p.variable.grad().to_vector<float>());
  sgd.step(0.1f);
  for (const NamedTensor& t : model->state())  // running statistics among them
    if (t.tensor->dtype() == DType::f32)
      values.emplace_back(t.name + " after the step", t.tensor->to_vector<float>());
  return values;
}

NamedValues inference_values(const std::string& network) {
  const NoGrad no_grad;
  const auto model = make_model(network, {.num_classes = 10, .seed = 5});
  test::disturb_norms(*model);
  model->eval();
  NamedValues values;
  for (const bool fused : {false, true}) {
    if (fused) model->fuse();
    for (const int batch : {1, 5, 8})
      values.emplace_back(
          (fused ? "fused, batch " : "batch ") + std::to_string(batch),
          model->forward(Variable(test::random_images(batch, 96))).value().to_vector<float>());
  }
  return values;
}

void expect_same_bits(const NamedValues& some, const NamedValues& others, int threads) {
  ASSERT_EQ(some.size(), others.size());
  for (size_t i = 0; i < some.size(); ++i)
    EXPECT_TRUE(some[i] == others[i]) << some[i].first << " on " << threads << " threads";
}

TEST_P(ThreadsDoNotChangeABit, OfATrainingStep) {
  NamedValues on_one;
  {
    const OnThreads one(1, false);
    on_one = training_step_values(GetParam());
  }
  for (const int threads : {2, 3, 8}) {
    const OnThreads several(threads, threads == 3);
    expect_same_bits(on_one, training_step_values(GetParam()), threads);
  }
}

TEST_P(ThreadsDoNotChangeABit, OfInference) {
  NamedValues on_one;
  {
    const OnThreads one(1, false);
    on_one = inference_values(GetParam());
  }
  for (const int threads : {2, 3, 8}) {
    const OnThreads several(threads, threads == 3);
    expect_same_bits(on_one, inference_values(GetParam()), threads);
  }
}

INSTANTIATE_TEST_SUITE_P(Networks, ThreadsDoNotChangeABit,
                         testing::Values("resnet18", "mobilenet_v3_small", "squeezenet1_1",
                                         "shufflenet_v2_x1_0", "efficientnet_v2_s"),
                         [](const auto& one) { return std::string(one.param); });

}  // namespace
}  // namespace plume::threads_test
