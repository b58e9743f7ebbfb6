// Programs that are asked to stop: what they save, say and return.
#include <csignal>

#include "tests/tools/training_run.h"

namespace plume::test::train_signals_test {
namespace {

std::string binary(const std::string& name) { return message("{}/bin/{}", PLUME_BINARY_DIR, name); }

// Runs the command in the background of a shell that waits for `condition` and then signals it.
ToolResult signalled(const std::string& before, const std::string& condition, const std::string& signal,
                     const Words& command) {
  const std::string script = before + "\"$@\" & child=$!; while ! " + condition +
                             "; do sleep 0.01; done; kill -" + signal + " $child; wait $child";
  return run_command("/bin/sh", joined({"-c", script, "sh"}, command));
}

Words train(const std::string& out, int epochs) {
  return {binary("train"),
          "--device",
          "cpu",
          "--threads",
          "1",
          "--model",
          "shufflenet_v2_x0_5",
          "--limit-train",
          "16",
          "--limit-test",
          "8",
          "--batch",
          "8",
          "--epochs",
          std::to_string(epochs),
          "--out",
          out};
}

TEST(TrainSignalsTest, EverySignalThatAsksLeavesACheckpoint) {
  const TemporaryFolder folder;
  const std::pair<const char*, int> signals[] = {
      {"INT", SIGINT}, {"TERM", SIGTERM}, {"HUP", SIGHUP}, {"USR1", SIGUSR1}, {"USR2", SIGUSR2}};
  for (const auto& [name, number] : signals) {
    SCOPED_TRACE(name);
    const std::string out = folder.file(name);
    const ToolResult result = signalled("", "[ -s " + out + "/metrics.jsonl ]", name, train(out, 1000));
    EXPECT_EQ(result.code, 128 + number) << result.err;
    EXPECT_TRUE(contains(result.err, message("stopped by signal {}", number))) << result.err;
    ASSERT_NE(newest_checkpoint(out), "");
    EXPECT_TRUE(contains(result.err, "saved " + newest_checkpoint(out))) << result.err;
  }
}

TEST(TrainSignalsTest, NohupIsHeeded) {
  const TemporaryFolder folder;
  const std::string out = folder.file("run");
  const ToolResult result =
      signalled("trap '' HUP; ", "[ -s " + out + "/metrics.jsonl ]", "HUP", train(out, 20));
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(epochs_of(out).size(), 20u);
}

TEST(TrainSignalsTest, AnEvaluationWritesNothing) {
  const TemporaryFolder folder;
  const std::string out = folder.file("run"), report = folder.file("report.json");
  ASSERT_EQ(run_tool("train", small_run(out, {"--model", "shufflenet_v2_x0_5"})).code, 0);
  const ToolResult result =
      signalled("", "sleep 1", "USR1",
                {binary("evaluate"), "--device", "cpu", "--threads", "1", "--checkpoint",
                 out + "/last.safetensors", "--limit", "16", "--latency-seconds", "60", "--json", report});
  EXPECT_EQ(result.code, 128 + SIGUSR1);
  EXPECT_TRUE(contains(result.err, "interrupted; nothing is written")) << result.err;
  EXPECT_FALSE(fs::exists(report));
}

}  // namespace
}  // namespace plume::test::train_signals_test
