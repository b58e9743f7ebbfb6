// What a step found is read while the device is at work on the next.
#include "tests/cuda_host/on_stand_in.h"
#include "tests/cuda_host/small_training.h"
#include "tools/training/evaluation_passes.h"

namespace plume::test::late_results_test {
namespace {

using LateResults = OnStandIn;

// The next step is given to the device before anything is read of the one before.
TEST_F(LateResults, AStepDoesNotWaitForTheDevice) {
  SmallTrainer trainer(true);
  const std::vector<data::Batch> batches = SmallTrainer::batches(0, 2);
  std::vector<float> losses;
  for (int s = 0; s < 3; ++s) trainer.start(s, batches), losses.push_back(trainer.loss());
  stand_in_control().reset();
  trainer.start(3, batches);
  trainer.start(4, batches);
  EXPECT_EQ(counts().waits, 0u);
  losses.push_back(trainer.loss());
  EXPECT_EQ(counts().waits, 1u);
  losses.push_back(trainer.loss());
  SmallTrainer plain(false);
  for (int s = 0; s < 5; ++s) {
    plain.start(s, batches);
    EXPECT_EQ(plain.loss(), losses[size_t(s)]) << s;
  }
}

// Whole batches are replays of one recording, the last one is not; nothing is waited for in between.
TEST_F(LateResults, AnEvaluationDoesNotWaitForTheDevice) {
  SmallNetOnStandIn net;
  net.to(Device::cuda);
  net.eval();
  std::vector<Tensor> images, labels;
  for (int i = 0; i < 5; ++i) {
    const std::vector<data::Batch> made = SmallTrainer::batches(i, 1);
    images.push_back(made[0].images), labels.push_back(made[0].labels);
  }
  const auto logits_of = [&](int64_t whole) {
    tools::EvaluationPasses passes(net, Device::cuda, DType::f32, whole);
    std::vector<std::vector<float>> logits;
    passes.start(images[0], labels[0]);
    logits.push_back(passes.take().logits.to_vector<float>());
    stand_in_control().reset();
    for (size_t i = 1; i < images.size(); ++i) passes.start(images[i], labels[i]);
    EXPECT_EQ(counts().waits, 0u);
    while (passes.unread() > 0) logits.push_back(passes.take().logits.to_vector<float>());
    return logits;
  };
  const auto recorded = logits_of(SmallTrainer::kBatch);
  EXPECT_EQ(counts().replays, 4u);
  EXPECT_EQ(recorded, logits_of(SmallTrainer::kBatch + 1));
  EXPECT_EQ(counts().replays, 0u) << "no batch was a whole one";
}

}  // namespace
}  // namespace plume::test::late_results_test
