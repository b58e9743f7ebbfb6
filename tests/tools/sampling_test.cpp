// A sample of blocks and launches is held against whole networks, and counts against themselves.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <numeric>

#include "engine/core/kernel_slot.h"
#include "engine/profiler/kernel_counts.h"
#include "tests/support/test_support.h"
#include "tools/profiling/gpus.h"
#include "tools/profiling/prediction.h"
#include "tools/profiling/sampling.h"

namespace plume::test::sampling_test {
namespace {

tools::ProfileRequest small_network(bool training) {
  tools::ProfileRequest request;
  request.device = Device::simt;
  request.dtype = DType::bf16;
  request.workload = {.training = training, .size = 64, .batch = 8};
  return request;
}

// A sample of the blocks against all of them: the pass, and every call.
void expect_a_sample_agrees(const char* model, bool training, int size, int64_t batch) {
  if (!kernel_counter(Device::simt).counts_memory()) GTEST_SKIP() << "simt is built without counters";
  tools::ProfileRequest request = small_network(training);
  request.model = model;
  request.workload.size = size, request.workload.batch = batch;
  const GpuDescription gpu = tools::find_gpu("h100");
  const tools::ProfileReport all = tools::predict_profile(request, gpu, {.blocks = 0}).report;
  const tools::ProfileReport some = tools::predict_profile(request, gpu, {.blocks = 8}).report;
  EXPECT_NEAR(some.profile.step_seconds, all.profile.step_seconds, 0.05 * all.profile.step_seconds);
  ASSERT_EQ(some.predictions.size(), all.predictions.size());
  KernelCounts sum_of_all, sum_of_some;
  for (size_t i = 0; i < all.predictions.size(); ++i) {
    sum_of_all += all.predictions[i].counts;
    sum_of_some += some.predictions[i].counts;
    // Padding and the last blocks of small images weigh most in a single call; and what the last block of
    // all does alone at the end of a reduction, a few microseconds, is not in a sample.
    constexpr double kEndOfReduction = 5e-6;
    const double seconds = all.profile.rows[i].seconds;
    EXPECT_NEAR(some.profile.rows[i].seconds, seconds, 0.25 * seconds + kEndOfReduction)
        << all.profile.rows[i].call.scope;
  }
  // Ends of reductions, too, and a launch of two products, of which one may have work for few of its blocks.
  EXPECT_NEAR(sum_of_some.sectors, sum_of_all.sectors, 0.1 * sum_of_all.sectors);
  EXPECT_NEAR(sum_of_some.wavefronts, sum_of_all.wavefronts, 0.1 * sum_of_all.wavefronts);
  EXPECT_NEAR(sum_of_some.mma, sum_of_all.mma, 0.05 * sum_of_all.mma);
  EXPECT_NEAR(sum_of_some.barriers, sum_of_all.barriers, 0.05 * sum_of_all.barriers);
}

TEST(ProfileGpu, ASampleAgreesWithTheWhole) { expect_a_sample_agrees("mobilenet_v3_small", true, 64, 4); }
// Long blocks, and grids whose layers differ: a few calls of a network that would take minutes as a whole.
TEST(ProfileGpu, ASampleAgreesWhereBlocksAreLong) {
  if (!kernel_counter(Device::simt).counts_memory()) GTEST_SKIP() << "simt is built without counters";
  tools::ProfileRequest request = small_network(true);
  request.model = "resnet18";
  request.workload.size = 32;
  force_variants("conv_batch_norm.forward=separate");
  const std::shared_ptr<void> lifted(nullptr, [](void*) { force_variants("conv_batch_norm.forward="); });
  const GpuDescription gpu = tools::find_gpu("h100");
  const std::vector<ProfileRow> some =
      tools::predict_profile(request, gpu, {.blocks = 8}).report.profile.rows;
  for (const auto& [scope, slot] :
       {std::pair<std::string, std::string>{"layer2.0.conv1", "conv2d.backward_input"},
        {"layer3.0.conv1", "conv2d.backward_input"},
        {"layer2.0.conv1", "conv2d.backward_weight"}}) {
    const auto row = std::find_if(some.begin(), some.end(), [&](const ProfileRow& r) {
      return r.call.scope == scope && r.call.slot == slot;
    });
    ASSERT_NE(row, some.end()) << scope;
    const auto call = size_t(row - some.begin());
    const tools::CountedPass all =
        tools::count_pass(request, gpu, {.blocks = 0, .choose = [&](const auto&) { return call; }});
    double seconds = 0;
    for (const Prediction& p : tools::predict_call(all, call, gpu)) seconds += p.seconds;
    EXPECT_NEAR(row->seconds, seconds, 0.1 * seconds) << scope << " " << slot;
  }
}
// Launches that repeat others.
TEST(ProfileGpu, ASampleAgreesWhereCallsRepeat) {
  expect_a_sample_agrees("shufflenet_v2_x1_0", false, 64, 4);
}
TEST(ProfileGpu, ASampleAgreesWhereBlocksAreFused) { expect_a_sample_agrees("squeezenet1_1", false, 64, 2); }

// Counts are the same whatever the memory held before.
TEST(ProfileGpu, CountsRepeat) {
  if (!kernel_counter(Device::simt).counts_memory()) GTEST_SKIP() << "simt is built without counters";
  const tools::ProfileRequest request = small_network(false);
  std::vector<KernelCounts> sums;
  for (const float before : {-1.0f, 3e38f}) {
    std::vector<Tensor> dirt;
    for (int64_t elements = 64; elements < (1 << 22); elements += elements / 4)
      for (int i = 0; i < 4; ++i)
        dirt.push_back(Tensor::from(std::vector<float>(size_t(elements), before), {elements}, Device::simt));
    dirt.clear();
    KernelCounts sum;
    for (const CountedLaunch& launch :
         tools::count_pass(request, tools::find_gpu("h100"), {.blocks = 2}).launches)
      sum += launch.counts;
    sums.push_back(sum);
  }
  EXPECT_EQ(sums[0].sectors, sums[1].sectors);
  EXPECT_EQ(sums[0].ideal_sectors, sums[1].ideal_sectors);
  EXPECT_EQ(sums[0].wavefronts, sums[1].wavefronts);
  EXPECT_EQ(sums[0].steps, sums[1].steps);
}

tools::SamplingPlan plan_of(const std::vector<CountedLaunch>& probes, const ProfileCall& call) {
  std::vector<ProfileCall> calls(probes.size(), call);
  std::vector<int64_t> owners(probes.size());
  std::iota(owners.begin(), owners.end(), 0);
  return tools::plan_sampling(calls, owners, probes, 8);
}

TEST(Sampling, RunsWhatDiffersAndLittleOfWhatIsLong) {
  ProfileCall call;
  call.slot = "relu.forward", call.variant = "packs";
  CountedLaunch probe;
  probe.kernel = "relu";
  probe.blocks = 100, probe.counted_blocks = 1;
  probe.counts.steps = 10, probe.counts.step_lanes = 320;
  CountedLaunch other = probe, longer = probe;
  other.counts.steps = 11;
  longer.grid[0] = 2;
  longer.counts.step_lanes = 4e6;
  const tools::SamplingPlan plan = plan_of({probe, other, probe, longer, longer}, call);
  EXPECT_THAT(plan.repeats, testing::ElementsAre(0, 1, 0, 3, 3));
  EXPECT_THAT(plan.blocks, testing::ElementsAre(8, 8, 0, 2, 0));
  std::vector<CountedLaunch> launches{probe, other, {}, longer, {}};
  tools::fill_in(plan, {probe, other, probe, longer, longer}, launches);
  EXPECT_EQ(launches[2].counts.steps, 10);
  EXPECT_EQ(launches[4].counts.step_lanes, 4e6);
  // So long that its probe is enough.
  longer.counts.step_lanes = 1e9;
  EXPECT_THAT(plan_of({longer}, call).blocks, testing::ElementsAre(0));
  longer.grid[2] = 4;  // but one of each layer
  EXPECT_THAT(plan_of({longer}, call).blocks, testing::ElementsAre(4));
}

TEST(Sampling, ProbesRepeatsUnlessTheyAreLong) {
  ProfileCall small, large;
  small.slot = large.slot = "conv2d.forward", small.variant = large.variant = "direct";
  small.cost.macs = 1e6, large.cost.macs = 1e12;
  CountedLaunch launch;
  launch.kernel = "direct";
  launch.blocks = 10;
  EXPECT_THAT(
      tools::plan_probes({small, small, large, large}, {0, 1, 2, 3}, {launch, launch, launch, launch}),
      testing::ElementsAre(1, 1, 1, 0));
}

}  // namespace
}  // namespace plume::test::sampling_test
