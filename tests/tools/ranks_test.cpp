// train by several ranks, as mpirun starts them.
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/support/test_support.h"
#include "tests/support/tool_runner.h"
#include "tools/cli/json.h"
#include "tools/cli/tensors.h"

#ifndef PLUME_MPIEXEC
#define PLUME_MPIEXEC ""
#endif

namespace plume::test::ranks_test {
namespace {

using Words = std::vector<std::string>;
using json = tools::Json;

class RanksTest : public testing::Test {
 protected:
  void SetUp() override {
    if (std::string(PLUME_MPIEXEC).empty()) GTEST_SKIP() << "this build has no MPI";
  }
  TemporaryFolder folder_;
};

std::string binary(const std::string& name) { return message("{}/bin/{}", PLUME_BINARY_DIR, name); }

ToolResult run_ranks(const std::string& program, const Words& flags) {
  Words words{"-n", "2", binary(program)};
  words.insert(words.end(), flags.begin(), flags.end());
  return run_command(PLUME_MPIEXEC, words);
}

// Epochs of 16 images, selected on 16 others. At the kinks of relu the last bit of a sum decides between two
// gradients, so that curves part at a pace that grows with the learning rate; this one moves the loss by some
// 1e-3.
Words small_run(const std::string& out, const std::string& flags) {
  Words words{"--out", out};
  std::istringstream all(
      "--device cpu --data synthetic --stem cifar --limit-train 32 --validation 16 --limit-test 9 "
      "--warmup-epochs 0 --lr 1e-5 --threads 1 --workers 0 " +
      flags);
  for (std::string word; all >> word;) words.push_back(word);
  return words;
}

std::vector<json> lines_of(const std::string& path) {
  std::vector<json> lines;
  std::istringstream in(read_file(path));
  for (std::string line; std::getline(in, line);) lines.push_back(tools::parse_json_or_null(line));
  return lines;
}

int count(const std::string& text, const std::string& part) {
  int found = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++found;
  return found;
}

TEST_F(RanksTest, TwoEqualOneWithTheDoubledBatch) {
  const std::string one = folder_.file("one"), two = folder_.file("two");
  const ToolResult alone = run_tool("train", small_run(one, "--model resnet18 --batch 8 --epochs 2"));
  ASSERT_EQ(alone.code, 0) << alone.err;
  const ToolResult both =
      run_ranks("train", small_run(two, "--model resnet18 --batch 4 --epochs 2 --sync-bn"));
  ASSERT_EQ(both.code, 0) << both.err;
  EXPECT_EQ(count(both.out, "epoch 2/2: loss"), 1) << "only the first rank speaks: " << both.out;

  const auto expected = lines_of(one + "/metrics.jsonl"), got = lines_of(two + "/metrics.jsonl");
  ASSERT_EQ(expected.size(), 3u);
  ASSERT_EQ(got.size(), 3u);
  for (size_t i = 0; i < 2; ++i) {
    for (const char* key : {"train_loss", "validation_loss"})
      EXPECT_NEAR(double(got[i][key]), double(expected[i][key]), 1e-5) << key << " of epoch " << i + 1;
    for (const char* key : {"validation_top1", "validation_macro_f1", "step"})
      EXPECT_EQ(got[i][key], expected[i][key]);
  }
  for (const char* key : {"test_best_loss", "test_last_loss"})
    EXPECT_NEAR(double(got[2][key]), double(expected[2][key]), 1e-5) << key;
  for (const char* key : {"best_epoch", "test_images", "test_best_top1"})
    EXPECT_EQ(got[2][key], expected[2][key]) << key;
}

// A shell's script: runs "$@" and sends it the signal once `file` holds something. Ends with what it ran,
// also where that ends before.
std::string signal_when_written(const std::string& file, const char* signal) {
  return "\"$@\" & running=$!; while [ ! -s " + file + " ] && kill -0 $running 2>/dev/null; do sleep 0.01; " +
         "done; kill -" + signal + " $running 2>/dev/null; wait $running";
}

TEST_F(RanksTest, NobodyWaitsForALauncherThatRefuses) {
  const std::string script =
      "timeout 20 /bin/sh -c '" + signal_when_written(folder_.file("never"), "TERM") + "' sh /bin/false";
  EXPECT_EQ(run_command("/bin/sh", {"-c", script}).code, 1);
}

// One rank is asked to stop; both do, after the same step, and go on as if nothing had been.
TEST_F(RanksTest, ASignalToOneStopsAllAndTheRunGoesOn) {
  const std::string whole = folder_.file("whole"), stopped = folder_.file("stopped");
  const char* flags = "--model shufflenet_v2_x0_5 --batch 2 --epochs 5";
  ASSERT_EQ(run_ranks("train", small_run(whole, flags)).code, 0);
  // The second rank gets the signal when the first one has written an epoch's metrics.
  const Words train = small_run(stopped, flags);
  const std::string script = signal_when_written(stopped + "/metrics.jsonl", "TERM");
  Words words{"-n", "1", binary("train")};
  words.insert(words.end(), train.begin(), train.end());
  for (const std::string& word : Words{":", "-n", "1", "/bin/sh", "-c", script, "sh", binary("train")})
    words.push_back(word);
  words.insert(words.end(), train.begin(), train.end());
  const ToolResult result = run_command(PLUME_MPIEXEC, words);
  ASSERT_EQ(result.code, 143) << result.err;
  EXPECT_EQ(count(result.err, "stopped by signal 15"), 1) << result.err;
  const ToolResult resumed =
      run_ranks("train", {"--device", "cpu", "--threads", "1", "--resume", "--out", stopped});
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  for (const char* key : {"best_epoch", "test_best_loss", "test_last_loss"})
    EXPECT_EQ(lines_of(whole + "/metrics.jsonl").back()[key],
              lines_of(stopped + "/metrics.jsonl").back()[key]);
  const char* last = "/checkpoints/step-00000020.safetensors";
  const tools::TensorMap left = tools::read_tensors(whole + last),
                         right = tools::read_tensors(stopped + last);
  ASSERT_EQ(left.size(), right.size());
  for (const auto& [name, tensor] : left) {
    const Tensor& other = tools::find_tensor(right, name, stopped);
    ASSERT_EQ(tensor.bytes(), other.bytes()) << name;
    EXPECT_EQ(std::memcmp(tensor.raw(), other.raw(), tensor.bytes()), 0) << name;
  }
}

// mpirun passes SIGUSR1 on to all ranks. The run belongs to two ranks then, unless one says otherwise.
TEST_F(RanksTest, ASignalToTheLauncherStopsAllAndTheirNumberIsASetting) {
  const std::string out = folder_.file("stopped");
  const std::string script = signal_when_written(out + "/metrics.jsonl", "USR1");
  Words words{"-c", script, "sh", PLUME_MPIEXEC, "-n", "2", binary("train")};
  for (const std::string& word : small_run(out, "--model shufflenet_v2_x0_5 --batch 2 --epochs 500"))
    words.push_back(word);
  const ToolResult result = run_command("/bin/sh", words);
  EXPECT_EQ(result.code, 138) << result.err;
  EXPECT_EQ(count(result.err, "stopped by signal 10"), 1) << result.err;
  for (const std::string& text : {result.out, read_file(out + "/console.log")})
    EXPECT_EQ(text.find_first_of("\r\033"), std::string::npos) << text;
  const Words resume{"--device", "cpu", "--threads", "1", "--resume", "--out", out};
  expect_refusal(run_tool("train", resume), 2, {"ranks: 2 -> 1", "--allow-changes"});
  Words changed = resume;
  changed.insert(changed.end(), {"--allow-changes", "--epochs", "1"});
  EXPECT_NE(run_tool("train", changed).err.find("ranks: 2 -> 1"), std::string::npos);
}

TEST_F(RanksTest, ARankThatFailsEndsTheOthers) {
  const ToolResult result = run_ranks("two_ranks", {"fail"});
  EXPECT_EQ(result.code, 5);
  EXPECT_EQ(count(result.err, "rank 1 gives up"), 1) << result.err;
}

TEST_F(RanksTest, AnErrorOfAllIsSaidOnce) {
  const std::string out = folder_.file("file");
  write_file(out, "");
  const ToolResult result = run_ranks("train", small_run(out, "--batch 4 --epochs 1"));
  EXPECT_EQ(result.code, 2);
  EXPECT_EQ(count(result.err, "is not a folder"), 1) << result.err;
}

TEST_F(RanksTest, WithoutThePluginTheReasonIsSaid) {
  setenv("PLUME_MPI_PLUGIN", "/nowhere/libplume_mpi.so", 1);
  const ToolResult result = run_ranks("train", small_run(folder_.file("run"), "--batch 4 --epochs 1"));
  unsetenv("PLUME_MPI_PLUGIN");
  EXPECT_EQ(result.code, 4);
  EXPECT_EQ(count(result.err, "cannot talk to each other: the MPI plug-in could not be opened"), 1)
      << result.err;
}

}  // namespace
}  // namespace plume::test::ranks_test
