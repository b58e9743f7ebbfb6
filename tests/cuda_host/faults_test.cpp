// Every call of the driver fails in turn, and every allocation.
#include <gmock/gmock.h>

#include <cstdio>
#include <cstdlib>
#include <set>

#include "engine/memory/allocator.h"
#include "tests/cuda_host/on_stand_in.h"
#include "tests/cuda_host/small_training.h"
#include "tests/tools/training_run.h"

namespace plume::test::faults_test {
namespace {

using testing::HasSubstr;
using testing::Not;

// Calls whose failure need not end a run: allocations are tried again when what is cached was given up,
// nobody can do anything about what cannot be given back, and destructors wait.
const std::set<std::string> kMayPass{"cudaMalloc",           "cudaHostAlloc",         "cudaFree",
                                     "cudaFreeHost",         "cudaEventDestroy",      "cudaGraphDestroy",
                                     "cudaGraphExecDestroy", "cudaStreamSynchronize", "cudaEventSynchronize"};

class FaultsOnStandIn : public OnStandIn {
 protected:
  // Memory is asked for anew each time.
  static SmallTraining fresh_training() {
    device_allocator(Device::cuda).release_cached();
    return train_small(true);
  }
};

TEST_F(FaultsOnStandIn, ARecordedStepNeedsNoExcuse) {
  const SmallTraining recorded = train_small(true), plain = train_small(false);
  EXPECT_EQ(recorded.losses, plain.losses);
  EXPECT_EQ(counts().replays, 2u);
  ASSERT_EQ(recorded.said.size(), 1u);
  EXPECT_THAT(recorded.said[0], HasSubstr("a step of fewer than 4 images"));
}

// A first step that is a short one makes no plans for whole ones: they are not recorded at once.
TEST_F(FaultsOnStandIn, AShortStepFirst) {
  const auto run = [](bool graph) {
    SmallTrainer trainer(graph);
    std::vector<float> losses;
    for (int s = 0; s < 4; ++s) trainer.start(s, s == 0 ? 1 : 2), losses.push_back(trainer.loss());
    EXPECT_EQ(trainer.said.size(), graph ? 1u : 0u);
    return losses;
  };
  EXPECT_EQ(run(true), run(false));
  EXPECT_EQ(counts().replays, 2u);
}

// Either the run ends in one line that names a resource, or it comes to the same end.
TEST_F(FaultsOnStandIn, AnyCallOfTheDriver) {
  fresh_training();
  const SmallTraining expected = fresh_training();
  stand_in_control().reset();
  fresh_training();
  const uint64_t places = counts().calls;
  int ended = 0;
  for (uint64_t place = 1; place <= places; ++place) {
    SmallTraining result;
    stand_in_control().fail_call(place);
    const CaughtError error = caught([&] { result = fresh_training(); });
    stand_in_control().fail_call(0);
    const std::string where = message("call {} of {}: {}", place, places, stand_in_control().last_failed());
    if (!error.thrown) {
      ASSERT_EQ(result.losses, expected.losses) << where;
      const bool said_so = result.said.size() > 1 ||
                           (result.said.size() == 1 && contains(result.said[0], "cannot be recorded"));
      ASSERT_TRUE(said_so || kMayPass.contains(stand_in_control().last_failed())) << where;
      continue;
    }
    ++ended;
    ASSERT_EQ(error.kind, ErrorKind::resource) << where << ": " << error.text;
    ASSERT_THAT(error.text, Not(HasSubstr("\n"))) << where;
    ASSERT_FALSE(error.text.empty()) << where;
  }
  EXPECT_EQ(fresh_training().losses, expected.losses) << "nothing is left over";
  EXPECT_GT(ended, int(places) / 4);
  std::printf("%d places, %d ended the run\n", int(places), ended);
}

TEST_F(FaultsOnStandIn, AnyAllocation) {
  const SmallTraining expected = fresh_training();
  stand_in_control().reset();
  fresh_training();
  const uint64_t places = counts().allocations;
  for (uint64_t place = 1; place <= places; ++place) {
    SmallTraining result;
    stand_in_control().fail_malloc(place);
    const CaughtError error = caught([&] { result = fresh_training(); });
    stand_in_control().fail_malloc(0);
    if (!error.thrown) {  // while a step was recorded: it then ran call by call in the memory that there was
      ASSERT_EQ(result.losses, expected.losses) << place;
      continue;
    }
    ASSERT_EQ(error.kind, ErrorKind::resource) << place << ": " << error.text;
    ASSERT_THAT(error.text, HasSubstr("out of device memory")) << place;
  }
  EXPECT_EQ(fresh_training().losses, expected.losses) << "nothing is left over";
  std::printf("%d allocations\n", int(places));
}

Words tiny_run(const std::string& out) {
  return {"--device",      "cuda",      "--model",   "squeezenet1_1",
          "--data",        "synthetic", "--epochs",  "1",
          "--limit-train", "4",         "--batch",   "2",
          "--limit-test",  "2",         "--threads", "1",
          "--workers",     "0",         "--out",     out};
}

// The programs: exit code 4 and one line.
TEST_F(FaultsOnStandIn, TrainEndsInOneLine) {
  const TemporaryFolder folder;
  setenv("PLUME_STAND_IN_LOG", "1", 1);
  const ToolResult whole = run_tool("train", tiny_run(folder.file("whole")));
  unsetenv("PLUME_STAND_IN_LOG");
  ASSERT_EQ(whole.code, 0) << whole.err;
  const size_t at = whole.err.find("counts of the stand-in: ");
  ASSERT_NE(at, std::string::npos) << whole.err;
  const int calls = std::atoi(whole.err.c_str() + at + 24);
  ASSERT_GT(calls, 100);
  int ended = 0;
  constexpr int kPlaces = 24;
  for (int i = 0; i < kPlaces; ++i) {
    const int place = 1 + int(int64_t(calls - 1) * i / kPlaces);
    setenv("PLUME_STAND_IN_FAIL_CALL", std::to_string(place).c_str(), 1);
    const ToolResult result = run_tool("train", tiny_run(folder.file("run" + std::to_string(i))));
    unsetenv("PLUME_STAND_IN_FAIL_CALL");
    if (result.code == 0) continue;
    ++ended;
    expect_refusal(result, 4, {"train"});
  }
  EXPECT_GT(ended, kPlaces / 4);
  std::printf("%d of %d calls tried, %d ended the run\n", kPlaces, calls, ended);
}

TEST_F(FaultsOnStandIn, ProgramsWithoutEnoughMemorySaySo) {
  const TemporaryFolder folder;
  ASSERT_EQ(run_tool("train", tiny_run(folder.file("run"))).code, 0);
  setenv("PLUME_STAND_IN_MEMORY", "3", 1);
  expect_refusal(run_tool("train", tiny_run(folder.file("refused"))), 4,
                 {"out of device memory", "a smaller batch"});
  expect_refusal(
      run_tool("evaluate", {"--device", "cuda", "--checkpoint", folder.file("run/last.safetensors"), "--data",
                            "synthetic", "--limit", "2"}),
      4, {"out of device memory"});
  unsetenv("PLUME_STAND_IN_MEMORY");
}

TEST_F(FaultsOnStandIn, NoGpuIsShownToARankThatShallSeeNone) {
  setenv("CUDA_VISIBLE_DEVICES", "", 1);
  for (const auto& [name, value] : {std::pair{"OMPI_COMM_WORLD_SIZE", "2"},
                                    {"OMPI_COMM_WORLD_RANK", "1"},
                                    {"OMPI_COMM_WORLD_LOCAL_RANK", "1"}})
    setenv(name, value, 1);
  expect_refusal(run_tool("profile", {"--device", "cuda", "--list-variants"}), 4,
                 {"rank 1 has no GPU of its own"});
  for (const char* name :
       {"CUDA_VISIBLE_DEVICES", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"})
    unsetenv(name);
}

TEST_F(FaultsOnStandIn, ABuildWithoutKernelsForTheGpuFallsBackToTheCpu) {
  setenv("PLUME_STAND_IN_KERNELS", "0", 1);
  const ToolResult asked = run_tool("profile", {"--list-variants"});
  expect_refusal(run_tool("profile", {"--device", "cuda", "--list-variants"}), 4,
                 {"this build has no kernels for GPU 0", "-DCMAKE_CUDA_ARCHITECTURES=90"});
  EXPECT_EQ(asked.code, 0) << asked.err;
  unsetenv("PLUME_STAND_IN_KERNELS");
}

}  // namespace
}  // namespace plume::test::faults_test
