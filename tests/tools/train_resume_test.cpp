// A run that is stopped anywhere, in any way, goes on as if it had not been.
#include <csignal>
#include <random>

#include "tests/tools/training_run.h"

namespace plume::test::train_resume_test {
namespace {

// One finished run that several tests look at.
class TrainResumeTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    const ToolResult result = run_tool("train", small_run(run()));
    ASSERT_EQ(result.code, 0) << result.err;
  }
  static void TearDownTestSuite() { delete folder_; }
  static std::string run() { return folder_->file("run"); }
  static std::string copy(const std::string& name) {
    const std::string other = folder_->file(name);
    fs::copy(run(), other, fs::copy_options::recursive);
    return other;
  }

  static TemporaryFolder* folder_;
};
TemporaryFolder* TrainResumeTest::folder_ = nullptr;

TEST_F(TrainResumeTest, GoesOnAfterASignalBitForBit) {
  const std::string other = folder_->file("interrupted");
  const auto first_epoch_done = [&](const std::string& out) { return contains(out, "epoch 1/3"); };
  const ToolResult stopped = run_tool("train", small_run(other), SIGINT, first_epoch_done);
  ASSERT_EQ(stopped.code, 130) << stopped.err;
  EXPECT_TRUE(contains(stopped.err, "saved " + newest_checkpoint(other))) << stopped.err;
  const ToolResult resumed = run_tool("train", resumed_run(other));
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  expect_same_runs(run(), other);
  EXPECT_EQ(epochs_of(other).size(), 3u);
}

// A network with dropout and one with batch norm, whatever else a run has to remember, killed at moments that
// are as random as they get.
TEST(TrainKillTest, GoesOnAfterBeingKilledAtRandomMomentsBitForBit) {
  constexpr int kFewestKills = 12;
  const TemporaryFolder folder;
  const Words settings = {"--device",
                          "cpu",
                          "--threads",
                          "1",
                          "--model",
                          "shufflenet_v2_x0_5",
                          "--limit-train",
                          "48",
                          "--limit-test",
                          "16",
                          "--batch",
                          "8",
                          "--accumulate",
                          "2",
                          "--epochs",
                          "4",
                          "--optimizer",
                          "adamw",
                          "--lr",
                          "0.002",
                          "--mixup",
                          "0.2",
                          "--cutmix",
                          "1",
                          "--ema-decay",
                          "0.99",
                          "--schedule",
                          "plateau",
                          "--step-epochs",
                          "1",
                          "--clip-norm",
                          "1",
                          "--checkpoint-steps",
                          "1"};
  const std::string whole = folder.file("whole"), killed = folder.file("killed");
  ASSERT_EQ(run_tool("train", joined(settings, {"--out", whole})).code, 0);
  std::mt19937 random(unsigned(std::random_device{}()));
  int kills = 0;
  for (bool finished = false; !finished;) {
    const bool begun = !newest_checkpoint(killed).empty();
    const Words command = begun ? resumed_run(killed) : joined(settings, {"--out", killed, "--overwrite"});
    // Once it was killed often enough it may go on to the end.
    const auto delay = std::chrono::milliseconds(kills < kFewestKills ? 20 + random() % 100 : 60'000);
    const ToolResult result = run_tool_for("train", command, delay);
    if (result.code == 128 + SIGKILL) {
      ++kills;
      continue;
    }
    ASSERT_EQ(result.code, 0) << result.err;
    finished = true;
    if (kills < kFewestKills) {  // a quick machine: once more
      finished = false;
      expect_same_runs(whole, killed);
      fs::remove_all(killed);
    }
  }
  expect_same_runs(whole, killed);
  const auto lines = [](const std::string& text) { return std::count(text.begin(), text.end(), '\n'); };
  for (const char* name : {"/metrics.jsonl", "/metrics.csv"})
    EXPECT_EQ(lines(read_file(killed + name)), lines(read_file(whole + name))) << name;
  EXPECT_EQ(read_file(killed + "/events.out.tfevents.plume").size(),
            read_file(whole + "/events.out.tfevents.plume").size());
}

TEST_F(TrainResumeTest, AFullDiskLeavesTheOldCheckpoint) {
  const std::string other = copy("full");
  const std::string newest = newest_checkpoint(other);
  const std::string before = read_file(newest), weights = read_file(other + "/last.safetensors");
  // Files of at most 512 KiB stand for the full disk.
  Words command = {"-c", "ulimit -f 1024; trap '' XFSZ; exec \"$@\"", "sh",
                   std::string(PLUME_BINARY_DIR) + "/bin/train"};
  command = joined(command, resumed_run(other, {"--epochs", "4", "--allow-changes"}));
  const ToolResult result = run_command("/bin/sh", command);
  EXPECT_EQ(result.code, 4) << result.err;
  for (const char* word : {"cannot be written", "bytes needed", "free"})
    EXPECT_TRUE(contains(result.err, word)) << result.err;
  EXPECT_EQ(newest_checkpoint(other), newest);
  EXPECT_EQ(read_file(newest), before);
  EXPECT_EQ(read_file(other + "/last.safetensors"), weights);
  for (const auto& entry : fs::recursive_directory_iterator(other))
    EXPECT_FALSE(contains(entry.path().string(), ".tmp")) << entry.path();
}

TEST_F(TrainResumeTest, AChangedSettingNeedsAWord) {
  const std::string other = copy("changed");
  const std::string before = read_file(newest_checkpoint(other));
  expect_refusal(run_tool("train", resumed_run(other, {"--lr", "0.5"})), 2,
                 {"lr: 0.02 -> 0.5", "--allow-changes"});
  EXPECT_EQ(read_file(newest_checkpoint(other)), before);
  const ToolResult result =
      run_tool("train", resumed_run(other, {"--lr", "0.5", "--epochs", "4", "--allow-changes"}));
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(contains(result.err, "epochs: 3 -> 4, lr: 0.02 -> 0.5")) << result.err;
  EXPECT_EQ(epochs_of(other).size(), 4u);
  EXPECT_EQ(tools::parse_json_or_null(read_file(other + "/config.json"))["recipe"]["lr"], 0.5);
}

TEST_F(TrainResumeTest, DamagedCheckpointsAreRefused) {
  const std::string good = read_file(newest_checkpoint(run()));
  const std::string other = folder_->file("damaged");
  fs::create_directories(other + "/checkpoints");
  const std::string last = other + "/checkpoints/step-00000006.safetensors";
  std::string flipped = good;
  flipped[flipped.size() / 2] = char(flipped[flipped.size() / 2] ^ 1);
  for (const std::string& bytes : {good.substr(0, good.size() / 2), flipped, std::string(), good + "x"}) {
    write_file(last, bytes);
    expect_refusal(run_tool("train", resumed_run(other)), 3, {last});
    expect_refusal(run_tool("evaluate", {"--device", "cpu", "--checkpoint", last}), 3, {last});
    EXPECT_EQ(read_file(last), bytes);
  }
  fs::remove(last);
  expect_refusal(run_tool("train", resumed_run(other)), 3, {other, "no checkpoint"});
  // Weights alone are no checkpoint.
  fs::copy(run() + "/last.safetensors", last);
  expect_refusal(run_tool("train", resumed_run(other)), 3, {last, "random counters"});
}

TEST_F(TrainResumeTest, ADamagedCheckpointFallsBackToTheOneBefore) {
  const std::string other = copy("fallback");
  write_file(newest_checkpoint(other), "x");
  const ToolResult result = run_tool("train", resumed_run(other));
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(contains(result.err, "goes on from " + other + "/checkpoints/step-00000004.safetensors"))
      << result.err;
  expect_same_runs(run(), other);
  EXPECT_EQ(epochs_of(other).size(), 3u);
}

TEST_F(TrainResumeTest, OtherDataIsRefused) {
  const std::string other = copy("other_data");
  const ToolResult result = run_tool("train", resumed_run(other, {"--limit-train", "64", "--allow-changes"}));
  EXPECT_EQ(result.code, 3);
  EXPECT_TRUE(contains(result.err, "other data")) << result.err;
}

}  // namespace
}  // namespace plume::test::train_resume_test
