// Two ranks of `train` with a device each, as mpirun starts them: gradients go through NCCL's entry points.
#include <cstdlib>

#include "tests/cuda_host/training_on_stand_in.h"

#ifndef PLUME_MPIEXEC
#define PLUME_MPIEXEC ""
#endif
#ifndef PLUME_HAVE_NCCL
#define PLUME_HAVE_NCCL 0
#endif

namespace plume::test::ranks_on_stand_in_test {
namespace {

using testing::HasSubstr;
using testing::Not;

const std::string kTrain = std::string(PLUME_BINARY_DIR) + "/bin/train";

// Two epochs of three steps; `images` of a rank's pass. With the large stem the last planes would be single
// pixels, whose batch norm makes much of a last bit.
Words training(const std::string& out, const char* images, const Words& more = {}) {
  return joined({"--device",
                 "cuda",
                 "--model",
                 "shufflenet_v2_x0_5",
                 "--data",
                 "synthetic",
                 "--stem",
                 "cifar",
                 "--epochs",
                 "2",
                 "--limit-train",
                 "12",
                 "--validation",
                 "0",
                 "--limit-test",
                 "4",
                 "--batch",
                 images,
                 "--lr",
                 "1e-6",
                 "--warmup-epochs",
                 "0",
                 "--workers",
                 "0",
                 "--threads",
                 "1",
                 "--checkpoint-steps",
                 "2",
                 "--keep-last",
                 "9",
                 "--out",
                 out},
                more);
}

// `second`: set in the environment of the second rank alone.
ToolResult run_two(const Words& flags, const std::string& second = "PLUME_STAND_IN_GUARD=1") {
  const Words train = joined({kTrain}, flags);
  return run_command(PLUME_MPIEXEC,
                     joined(joined(joined({"-n", "1"}, train), {":", "-n", "1", "env", second}), train));
}

class RanksOnStandIn : public testing::Test {
 protected:
  void SetUp() override {
    if (std::string(PLUME_MPIEXEC).empty()) GTEST_SKIP() << "this build has no MPI";
    if (!PLUME_HAVE_NCCL) GTEST_SKIP() << "the header of NCCL is missing";
  }
  std::string file(const char* name) { return folder_.file(name); }
  TemporaryFolder folder_;
};

TEST_F(RanksOnStandIn, RecordedStepsEqualOthersAndGoOnFromTheMiddle) {
  const Words everything{"--sync-bn", "--precision",  "f16", "--clip-norm", "1",  "--ema-decay",
                         "0.9",       "--accumulate", "2",   "--mixup",     "0.2"};
  expect_clean_training(run_two(training(file("graph"), "2", everything)));
  expect_clean_training(run_two(training(file("plain"), "2", joined(everything, {"--no-graph"}))));
  expect_same_runs(file("graph"), file("plain"));

  copy_from_second_step(file("graph"), file("resumed"));
  expect_clean_training(
      run_two({"--device", "cuda", "--threads", "1", "--out", file("resumed"), "--resume"}));
  expect_same_runs(file("graph"), file("resumed"));
}

TEST_F(RanksOnStandIn, TwoEqualOneWithTheDoubledBatch) {
  expect_clean_training(run_two(training(file("two"), "2", {"--sync-bn"})));
  const ToolResult alone = run_tool("train", training(file("one"), "4"));
  ASSERT_EQ(alone.code, 0) << alone.err;
  const auto two = epochs_of(file("two")), one = epochs_of(file("one"));
  ASSERT_EQ(two.size(), 2u);
  for (size_t i = 0; i < two.size(); ++i)
    EXPECT_NEAR(two[i]["train_loss"].get<double>(), one[i]["train_loss"].get<double>(), 1e-5);
}

// One clear line, the exit code of a resource that failed, and nobody waits for the rank that is gone.
TEST_F(RanksOnStandIn, ACallThatFailsInOneRankEndsBoth) {
  for (const std::string call : {"ncclCommInitRank", "ncclBroadcast", "ncclAllReduce", "ncclAllGather",
                                 "cudaStreamWaitEvent", "cudaEventRecord", "cudaGraphLaunch"}) {
    const ToolResult result =
        run_two(training(file(call.c_str()), "2", {"--sync-bn"}), "PLUME_STAND_IN_FAIL_NAMED=" + call);
    EXPECT_EQ(result.code, 4) << call << ": " << result.err;
    EXPECT_THAT(result.err, HasSubstr("train: " + call)) << call;
    EXPECT_THAT(result.err, Not(HasSubstr("the other ranks do not come"))) << call;
  }
}

}  // namespace
}  // namespace plume::test::ranks_on_stand_in_test
