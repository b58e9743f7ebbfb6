// train and evaluate as a user runs them: files, resuming, refusals.
#include <gtest/gtest.h>

#include <csignal>
#include <nlohmann/json.hpp>

#include "tests/support/test_support.h"
#include "tests/support/tool_runner.h"
#include "tools/tool_tensors.h"

namespace plume::test {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;
using nlohmann::json;

// A run of six steps in three epochs.
Words small_run(const std::string& out, const Words& more = {}) {
  Words words = {"--device",     "cpu",  "--data",    "synthetic", "--limit-train", "32",
                 "--limit-test", "16",   "--batch",   "16",        "--epochs",      "3",
                 "--lr",         "0.02", "--threads", "1",         "--out",         out};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// Every tensor of a checkpoint, weights and optimiser, bit for bit.
void expect_same_tensors(const std::string& a, const std::string& b) {
  const tools::TensorMap left = tools::read_tensors(a), right = tools::read_tensors(b);
  ASSERT_EQ(left.size(), right.size());
  for (const auto& [name, tensor] : left) {
    const Tensor& other = tools::find_tensor(right, name, b);
    ASSERT_EQ(tensor.bytes(), other.bytes()) << name;
    EXPECT_EQ(std::memcmp(tensor.raw(), other.raw(), tensor.bytes()), 0) << name;
  }
}

std::vector<json> lines_of(const std::string& path) {
  std::vector<json> lines;
  std::istringstream in(read_file(path));
  for (std::string line; std::getline(in, line);) lines.push_back(json::parse(line));
  return lines;
}

// One finished run that several tests look at.
class TrainTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    const ToolResult result = run_tool("train", small_run(run()));
    ASSERT_EQ(result.code, 0) << result.err;
  }
  static void TearDownTestSuite() { delete folder_; }
  static std::string run() { return folder_->file("run"); }
  static std::string file(const std::string& name) { return run() + "/" + name; }

  static TemporaryFolder* folder_;
};
TemporaryFolder* TrainTest::folder_ = nullptr;

TEST_F(TrainTest, LeavesCompleteFiles) {
  const json config = json::parse(read_file(file("config.json")));
  EXPECT_EQ(config["recipe"]["model"], "resnet18");
  EXPECT_EQ(config["recipe"]["epochs"], 3);
  const std::vector<json> metrics = lines_of(file("metrics.jsonl"));
  ASSERT_EQ(metrics.size(), 3u);
  for (size_t i = 0; i < metrics.size(); ++i) {
    EXPECT_EQ(metrics[i]["epoch"], i + 1);
    EXPECT_EQ(metrics[i]["step"], 2 * (i + 1));
    EXPECT_GT(metrics[i]["train_loss"], 0);
    EXPECT_GE(metrics[i]["test_top1"], 0);
  }
  EXPECT_TRUE(fs::exists(file("last.safetensors")));
  EXPECT_TRUE(fs::exists(file("best.safetensors")));
  for (const auto& entry : fs::directory_iterator(run()))
    EXPECT_FALSE(contains(entry.path().string(), ".tmp")) << entry.path();
}

TEST_F(TrainTest, EvaluatesToTheMetricsOfTraining) {
  const std::string report = folder_->file("report.json");
  const ToolResult result =
      run_tool("evaluate", {"--device", "cpu", "--checkpoint", file("last.safetensors"), "--limit", "16",
                            "--batch", "16", "--latency-seconds", "0.05", "--json", report});
  ASSERT_EQ(result.code, 0) << result.err;
  for (const char* word : {"top-1 accuracy", "macro F1", "time per image", "MACs per image", "size"})
    EXPECT_TRUE(contains(result.out, word)) << word;
  const json r = json::parse(read_file(report));
  const json last = lines_of(file("metrics.jsonl")).back();
  EXPECT_EQ(r["images"], 16);
  EXPECT_EQ(r["top1"], last["test_top1"]);
  EXPECT_EQ(r["macro_f1"], last["test_macro_f1"]);
  EXPECT_DOUBLE_EQ(r["loss"], last["test_loss"]);
  EXPECT_EQ(r["macs"], 37016576);  // ResNet18 at 32x32 with 10 classes
  EXPECT_EQ(r["parameters"], 11181642);
  EXPECT_EQ(r["per_class"].size(), 10u);
  int64_t images = 0;
  for (const json& row : r["confusion"])
    for (const json& count : row) images += count.get<int64_t>();
  EXPECT_EQ(images, 16);
  EXPECT_EQ(r["latency"].size(), 2u);
}

TEST_F(TrainTest, IsTheSameWithoutLoaderThreads) {
  const std::string other = folder_->file("no_threads");
  ASSERT_EQ(run_tool("train", small_run(other, {"--workers", "0"})).code, 0);
  expect_same_tensors(file("last.safetensors"), other + "/last.safetensors");
}

TEST_F(TrainTest, GoesOnAfterASignalBitForBit) {
  const std::string other = folder_->file("interrupted");
  const auto first_epoch_done = [&](const std::string& out) { return contains(out, "epoch 1/3"); };
  const ToolResult stopped = run_tool("train", small_run(other), SIGINT, first_epoch_done);
  ASSERT_EQ(stopped.code, 130) << stopped.err;
  EXPECT_TRUE(contains(stopped.err, "saved " + other + "/last.safetensors")) << stopped.err;
  const ToolResult resumed =
      run_tool("train", {"--device", "cpu", "--threads", "1", "--out", other, "--resume"});
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  expect_same_tensors(file("last.safetensors"), other + "/last.safetensors");
  EXPECT_EQ(lines_of(other + "/metrics.jsonl").size(), 3u);
}

TEST_F(TrainTest, GoesOnAfterBeingKilledBitForBit) {
  const std::string other = folder_->file("killed");
  const auto second_epoch_done = [&](const std::string& out) { return contains(out, "epoch 2/3"); };
  const ToolResult killed = run_tool("train", small_run(other), SIGKILL, second_epoch_done);
  ASSERT_EQ(killed.code, 128 + SIGKILL);
  const ToolResult resumed =
      run_tool("train", {"--device", "cpu", "--threads", "1", "--out", other, "--resume"});
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  expect_same_tensors(file("last.safetensors"), other + "/last.safetensors");
}

TEST_F(TrainTest, AChangedSettingNeedsAWord) {
  const std::string other = folder_->file("changed");
  fs::copy(run(), other);
  const std::string before = read_file(other + "/last.safetensors");
  expect_refusal(run_tool("train", {"--device", "cpu", "--out", other, "--resume", "--lr", "0.5"}), 2,
                 {"learning_rate: 0.02 -> 0.5", "--allow-changes"});
  EXPECT_EQ(read_file(other + "/last.safetensors"), before);
}

TEST_F(TrainTest, AFinishedRunIsNotOverwritten) {
  const std::string before = read_file(file("last.safetensors"));
  expect_refusal(run_tool("train", small_run(run())), 2, {run(), "--resume", "--overwrite"});
  EXPECT_EQ(read_file(file("last.safetensors")), before);
}

TEST_F(TrainTest, DamagedCheckpointsAreRefused) {
  const std::string good = read_file(file("last.safetensors"));
  const std::string other = folder_->file("damaged");
  fs::create_directory(other);
  const std::string last = other + "/last.safetensors";
  std::string flipped = good;
  flipped[flipped.size() / 2] = char(flipped[flipped.size() / 2] ^ 1);
  for (const std::string& bytes : {good.substr(0, good.size() / 2), flipped, std::string(), good + "x"}) {
    write_file(last, bytes);
    expect_refusal(run_tool("train", {"--device", "cpu", "--out", other, "--resume"}), 3, {last});
    expect_refusal(run_tool("evaluate", {"--device", "cpu", "--checkpoint", last}), 3, {last});
    EXPECT_EQ(read_file(last), bytes);
  }
  fs::remove(last);
  expect_refusal(run_tool("train", {"--device", "cpu", "--out", other, "--resume"}), 3, {last});
}

TEST_F(TrainTest, ADamagedLastCheckpointFallsBackToTheBest) {
  const std::string other = folder_->file("fallback");
  fs::copy(run(), other);
  write_file(other + "/last.safetensors", "x");
  const ToolResult result =
      run_tool("train", {"--device", "cpu", "--threads", "1", "--out", other, "--resume"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(contains(result.err, "goes on from " + other + "/best.safetensors")) << result.err;
  EXPECT_EQ(lines_of(other + "/metrics.jsonl").size(), 3u);
}

TEST_F(TrainTest, OtherClassesOrModelsAreRefused) {
  expect_refusal(run_tool("evaluate", {"--device", "cpu", "--model", "resnet18", "--weights",
                                       file("config.json"), "--data", "synthetic"}),
                 3, {"config.json"});
  expect_refusal(run_tool("evaluate", {"--device", "cpu", "--model", "resnet18", "--stem", "cifar",
                                       "--weights", file("last.safetensors"), "--data", "synthetic"}),
                 3, {"ShapeMismatch", "conv1.weight"});
}

TEST_F(TrainTest, TheReportDoesNotReplaceItsInput) {
  const std::string last = file("last.safetensors"), before = read_file(last);
  expect_refusal(run_tool("evaluate", {"--device", "cpu", "--checkpoint", last, "--json", last}), 2, {last});
  EXPECT_EQ(read_file(last), before);
}

TEST(TrainRefusalTest, ADivergedRunStopsAndKeepsNothingOfIt) {
  const TemporaryFolder folder;
  const ToolResult diverged = run_tool(
      "train", {"--device", "cpu", "--limit-train", "64", "--limit-test", "16", "--batch", "4", "--epochs",
                "3", "--lr", "1e6", "--warmup-epochs", "0", "--out", folder.file("run")});
  expect_refusal(diverged, 5, {"epoch", "step"});
  EXPECT_FALSE(fs::exists(folder.file("run") + "/last.safetensors"));
}

struct Refusal {
  Words flags;
  int code;
  Words words;
};

TEST(TrainRefusalTest, CommandLines) {
  const TemporaryFolder folder;
  const std::string out = folder.file("run");
  const Refusal refusals[] = {
      {{"--batchh", "3"}, 2, {"--batchh", "--batch"}},
      {{"--batch", "10x"}, 2, {"10x"}},
      {{"--batch", "0"}, 2, {"--batch", "0"}},
      {{"--batch", "-1"}, 2, {"--batch"}},
      {{"--epochs", "1000000000000000000"}, 2, {"--epochs"}},
      {{"--epochs", "1e3"}, 2, {"1e3"}},
      {{"--batch", "8", "--batch", "8"}, 2, {"twice"}},
      {{"--lr", "nan"}, 2, {"nan"}},
      {{"--lr", "1e400"}, 2, {"1e400"}},
      {{"--lr", ""}, 2, {"--lr"}},
      {{"--lr"}, 2, {"--lr"}},
      {{"--model", "resnet"}, 2, {"resnet18"}},
      {{"--data", "cifar"}, 2, {"cifar10"}},
      {{"--variant", "conv2d.forward=nothing"}, 2, {"nothing"}},
      {{"--variant", "conv2.forward=direct"}, 2, {"conv2d.forward"}},
      {{"--data", "cifar10", "--data-dir", "/nowhere"}, 3, {"/nowhere"}},
      {{"--data", "cifar10"}, 2, {"cifar10", "folder"}},
      {{"--resume", "--overwrite"}, 2, {"--resume", "--overwrite"}},
      {{"extra"}, 2, {"extra"}},
  };
  for (const Refusal& r : refusals) {
    Words command = {"--device", "cpu", "--out", out};
    command.insert(command.end(), r.flags.begin(), r.flags.end());
    SCOPED_TRACE(r.flags.front());
    expect_refusal(run_tool("train", command), r.code, r.words);
    EXPECT_FALSE(fs::exists(out));
  }
  expect_refusal(run_tool("train", {"--device", "cpu"}), 2, {"--out"});
  write_file(folder.file("file"), "x");
  expect_refusal(run_tool("train", {"--device", "cpu", "--out", folder.file("file")}), 2, {"not a folder"});
  if (!fs::exists("/dev/nvidia0"))
    expect_refusal(run_tool("train", {"--device", "cuda", "--out", out}), 4, {"cuda"});
}

TEST(TrainRefusalTest, BadDataFiles) {
  const TemporaryFolder folder;
  const std::string data = folder.file("data");
  fs::create_directory(data);
  const auto refuse = [&](const Words& words) {
    expect_refusal(run_tool("train", {"--device", "cpu", "--data", "cifar10", "--data-dir", data, "--out",
                                      folder.file("run")}),
                   3, words);
    EXPECT_FALSE(fs::exists(folder.file("run")));
  };
  refuse({data, "data_batch_1.bin"});
  write_file(data + "/data_batch_1.bin", std::string(30'729'999, '\0'));
  refuse({"data_batch_1.bin", "30729999", "30730000"});
  write_file(data + "/data_batch_1.bin", "version https://git-lfs.github.com/spec/v1\n");
  refuse({"data_batch_1.bin"});
}

}  // namespace
}  // namespace plume::test
