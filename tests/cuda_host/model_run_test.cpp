// What bench_models, time_model and profile do: passes recorded and replayed, trained and profiled.
#include <gmock/gmock.h>

#include "engine/memory/allocator.h"
#include "engine/ops/layer_random.h"
#include "engine/profiler/profiler.h"
#include "tests/cuda_host/on_stand_in.h"
#include "tools/profiling/profile.h"
#include "tools/profiling/workload.h"

namespace plume::test::model_run_test {
namespace {

using tools::ModelRun;
constexpr const char* kNetworks[] = {"resnet18", "mobilenet_v3_small", "squeezenet1_1", "efficientnet_v2_s",
                                     "shufflenet_v2_x0_5"};

class ModelRunTest : public OnStandIn, public testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    device_allocator(Device::cuda).release_cached();
    OnStandIn::SetUp();
  }
  // All that the network holds after some training passes.
  static std::vector<float> trained(const char* model, bool graph) {
    layer_random().seed(1);
    ModelRun run(model, {.training = true, .size = 32, .batch = 2}, DType::f32, Device::cuda,
                 {.graph = graph});
    for (int i = 0; i < 5; ++i) run.pass();
    run.check();
    std::vector<float> all;
    for (const NamedTensor& entry : run.model().state()) {
      if (entry.tensor->dtype() != DType::f32) continue;
      const std::vector<float> values = entry.tensor->to_vector<float>();
      all.insert(all.end(), values.begin(), values.end());
    }
    return all;
  }
};

TEST_P(ModelRunTest, ReplayedTrainingPassesLeaveTheWeightsOfPlainOnes) {
  const std::vector<float> plain = trained(GetParam(), false);
  const uint64_t before = counts().replays;
  EXPECT_EQ(trained(GetParam(), true), plain);
  EXPECT_EQ(counts().replays - before, 3u);
}

TEST_P(ModelRunTest, ReplayedInferenceIsFinite) {
  ModelRun run(GetParam(), {.training = false, .size = 32, .batch = 1}, DType::f32, Device::cuda,
               {.graph = true});
  for (int i = 0; i < 4; ++i) run.pass();
  run.check();
  EXPECT_EQ(counts().replays, 2u);
}

INSTANTIATE_TEST_SUITE_P(Networks, ModelRunTest, testing::ValuesIn(kNetworks));

using ProfilerOnStandIn = OnStandIn;

TEST_F(ProfilerOnStandIn, KernelsOfAReplayBelongToTheirCalls) {
  ModelRun run("squeezenet1_1", {.training = true, .size = 32, .batch = 1}, DType::f32, Device::cuda,
               {.graph = true});
  Profiler profiler(context(Device::cuda));
  for (int i = 0; i <= ModelRun::kPlainPasses; ++i) profiler.learn([&] { run.pass(); });
  profiler.measure([&] { run.pass(); });
  const Profile profile = profiler.profile();
  EXPECT_TRUE(profile.device_times);
  EXPECT_FALSE(profile.waits_around_calls);
  double launches = 0;
  for (const ProfileRow& row : profile.rows) launches += row.launches;
  EXPECT_GE(launches, double(profile.rows.size()) / 2) << "nested calls launch nothing of their own";
}

}  // namespace
}  // namespace plume::test::model_run_test
