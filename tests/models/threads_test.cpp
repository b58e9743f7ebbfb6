// Whole networks on 1, 2, 3 and 8 threads: a training step and inference give the same bits.
#include <gtest/gtest.h>

#include "engine/autograd/tape.h"
#include "engine/core/thread_pool.h"
#include "models/registry.h"
#include "tests/support/networks.h"

namespace plume::threads_test {
namespace {

using test::NamedValues;

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
    on_one = test::training_step_values(GetParam());
  }
  for (const int threads : {2, 3, 8}) {
    const OnThreads several(threads, threads == 3);
    expect_same_bits(on_one, test::training_step_values(GetParam()), threads);
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
