// train and evaluate as a user runs them: the run folder and what is in it.
#include "tests/tools/training_run.h"

namespace plume::test::train_test {
namespace {

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
  const json config = tools::parse_json_or_null(read_file(file("config.json")));
  EXPECT_EQ(config["recipe"]["model"], "resnet18");
  EXPECT_EQ(config["recipe"]["epochs"], 3);
  const std::vector<json> metrics = epochs_of(run());
  ASSERT_EQ(metrics.size(), 3u);
  for (size_t i = 0; i < metrics.size(); ++i) {
    EXPECT_EQ(metrics[i]["epoch"], i + 1);
    EXPECT_EQ(metrics[i]["step"], 2 * (i + 1));
    EXPECT_GT(metrics[i]["train_loss"], 0);
    EXPECT_GE(metrics[i]["validation_top1"], 0);
  }
  std::istringstream csv(read_file(file("metrics.csv")));
  std::string header, row;
  std::getline(csv, header);
  EXPECT_TRUE(header.starts_with("epoch,step,train_loss,train_top1,validation_loss,")) << header;
  for (const int epoch : {1, 2, 3, 3}) {  // at last the test
    ASSERT_TRUE(std::getline(csv, row));
    EXPECT_TRUE(row.starts_with(std::to_string(epoch) + "," + std::to_string(2 * epoch) + ",")) << row;
    EXPECT_EQ(std::count(row.begin(), row.end(), ','), std::count(header.begin(), header.end(), ','));
  }
  EXPECT_TRUE(contains(read_file(file("console.log")), "epoch 3/3"));
  EXPECT_TRUE(contains(read_file(file("events.out.tfevents.plume")), "validation/top1"));
  EXPECT_TRUE(contains(read_file(file("events.out.tfevents.plume")), "test/best_top1"));
  const json environment = tools::parse_json_or_null(read_file(file("environment.json")));
  for (const char* key :
       {"git_revision", "compiler", "image_decoders", "device", "device_name", "cpu_threads", "system"})
    EXPECT_TRUE(environment.contains(key)) << key;
  EXPECT_TRUE(fs::exists(file("last.safetensors")));
  EXPECT_TRUE(fs::exists(file("best.safetensors")));
  EXPECT_TRUE(fs::exists(file("checkpoints/step-00000006.safetensors")));
  EXPECT_TRUE(fs::exists(file("checkpoints/step-00000004.safetensors")));
  EXPECT_FALSE(fs::exists(file("checkpoints/step-00000002.safetensors")));
  for (const auto& entry : fs::recursive_directory_iterator(run()))
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
  const json r = tools::parse_json_or_null(read_file(report));
  const json last = lines_of(file("metrics.jsonl")).back();
  EXPECT_EQ(r["images"], 16);
  EXPECT_EQ(r["top1"], last["test_last_top1"]);
  EXPECT_EQ(r["macro_f1"], last["test_last_macro_f1"]);
  EXPECT_TRUE(contains(
      result.out, message("mean over the {} of 10 classes that occur", r["macro_f1_classes"].get<int>())));
  EXPECT_TRUE(contains(r["macro_f1_definition"], "occur among labels or predictions"));
  EXPECT_DOUBLE_EQ(r["loss"], last["test_last_loss"]);
  EXPECT_EQ(r["macs"], 37016576);  // ResNet18 at 32x32 with 10 classes
  EXPECT_EQ(r["parameters"], 11181642);
  EXPECT_EQ(r["per_class"].size(), 10u);
  int64_t images = 0;
  for (const json& row : r["confusion"])
    for (const json& count : row) images += count.get<int64_t>();
  EXPECT_EQ(images, 16);
  EXPECT_EQ(r["latency"].size(), 2u);
}

// Weights alone, under the names that torchvision's networks have.
TEST_F(TrainTest, KeepsPlainWeights) {
  for (const auto& [name, tensor] : tools::read_tensors(file("best.safetensors")))
    EXPECT_FALSE(name.starts_with("optimizer.")) << name;
  const ToolResult result = run_tool(
      "convert", {"--model", "resnet18", file("last.safetensors"), folder_->file("plain.safetensors")});
  EXPECT_EQ(result.code, 0) << result.err;
}

TEST_F(TrainTest, TheSameSettingsGiveTheSameWeights) {
  const std::string replayed = folder_->file("replayed"), by_config = folder_->file("by_config");
  ASSERT_EQ(run_tool("train", small_run(replayed, {"--workers", "0", "--graph"})).code, 0);
  expect_same_runs(run(), replayed);
  const ToolResult result = run_tool(
      "train", {"--device", "cpu", "--threads", "1", "--config", file("config.json"), "--out", by_config});
  ASSERT_EQ(result.code, 0) << result.err;
  expect_same_runs(run(), by_config);
}

TEST_F(TrainTest, SpeaksAsItIsTold) {
  const Words settings = {"--model", "shufflenet_v2_x0_5"};
  const ToolResult quiet =
      run_tool("train", small_run(folder_->file("quiet"), joined(settings, {"--quiet"})));
  EXPECT_EQ(quiet.out + quiet.err, "");
  const ToolResult programs =
      run_tool("train", small_run(folder_->file("json"), joined(settings, {"--json"})));
  std::istringstream lines(programs.out);
  std::vector<int> epochs;
  for (std::string line; std::getline(lines, line);)
    epochs.push_back(tools::parse_json_or_null(line)["epoch"]);
  EXPECT_EQ(epochs, std::vector<int>({1, 2, 3, 3}));  // at last the test
}

TEST_F(TrainTest, AFinishedRunIsNotOverwritten) {
  const std::string before = read_file(file("last.safetensors"));
  expect_refusal(run_tool("train", small_run(run())), 2, {run(), "--resume", "--overwrite"});
  EXPECT_EQ(read_file(file("last.safetensors")), before);
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

}  // namespace
}  // namespace plume::test::train_test
