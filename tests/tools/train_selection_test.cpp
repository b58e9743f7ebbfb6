// train chooses its best epoch without a look at the images that it is measured on.
#include <gmock/gmock.h>

#include <csignal>

#include "tests/data/images/image_files.h"
#include "tests/tools/training_run.h"

namespace plume::test::train_selection_test {
namespace {

using testing::HasSubstr;
using testing::Not;

size_t occurrences(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++found;
  return found;
}

// Without what a clock says.
std::vector<json> timeless_lines(const std::string& run) {
  std::vector<json> lines = lines_of(run + "/metrics.jsonl");
  for (json& line : lines) {
    const json all = line;
    for (const auto& [key, value] : all.items())
      if (contains(key, "second") || contains(key, "time") || contains(key, "wait") ||
          contains(key, "memory"))
        line.erase(key);
  }
  return lines;
}

json result_of(const std::string& run) {
  json result = tools::parse_json_or_null(read_file(run + "/result.json"));
  if (result.is_object()) result.erase("test_seconds");
  return result;
}

class TrainSelectionTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    const ToolResult result = run_tool("train", small_run(run(), kQuick));
    ASSERT_EQ(result.code, 0) << result.err;
    said_ = result.out;
  }
  static void TearDownTestSuite() { delete folder_; }
  static std::string run() { return folder_->file("run"); }
  static std::string copy(const std::string& name) {
    fs::copy(run(), folder_->file(name), fs::copy_options::recursive);
    return folder_->file(name);
  }

  static inline const Words kQuick = {"--model", "shufflenet_v2_x0_5"};
  static TemporaryFolder* folder_;
  static std::string said_;
};
TemporaryFolder* TrainSelectionTest::folder_ = nullptr;
std::string TrainSelectionTest::said_;

TEST_F(TrainSelectionTest, TheTestImagesAreLookedAtOnceAtTheEnd) {
  const std::vector<json> lines = lines_of(run() + "/metrics.jsonl");
  ASSERT_EQ(lines.size(), 4u);
  for (size_t i = 0; i < lines.size(); ++i) {
    int of_test = 0;
    for (const auto& [key, value] : lines[i].items()) of_test += key.starts_with("test_");
    EXPECT_EQ(of_test > 0, i == 3) << lines[i];
    EXPECT_EQ(lines[i].contains("validation_top1"), i < 3) << lines[i];
    EXPECT_EQ(lines[i]["selected_on"], "validation");
  }
  EXPECT_THAT(said_, Not(HasSubstr("test top-1")));
  EXPECT_EQ(occurrences(said_, "tested once"), 1u);
  EXPECT_THAT(said_, HasSubstr("selects on 16 validation images (33.3 % of the training set); the test split "
                               "is measured once, at the end"));
  const json result = result_of(run()), config = tools::parse_json_or_null(read_file(run() + "/config.json"));
  EXPECT_THAT(said_,
              HasSubstr(message("selected on 16 validation images (33.3 % of the training set), tested "
                                "once on 16: best (epoch {}) ",
                                result["best"]["epoch"].get<int>())));
  EXPECT_EQ(config["recipe"]["validation"], "16");
  EXPECT_EQ(config["run"]["selected_on"], "validation");
  EXPECT_EQ(config["run"]["validation_images"], 16);
  EXPECT_EQ(config["run"]["train_images"], 32);
  EXPECT_EQ(result["selected_on"], "validation");
  EXPECT_EQ(result["test_images"], 16);
}

// The weights that are kept, measured by another program.
TEST_F(TrainSelectionTest, BestAndLastAreWhatEvaluateFinds) {
  const json result = result_of(run());
  for (const char* which : {"best", "last"}) {
    const std::string report = folder_->file("report.json");
    ASSERT_EQ(run_tool("evaluate", {"--device", "cpu", "--threads", "1", "--checkpoint",
                                    run() + "/" + which + ".safetensors", "--limit", "16", "--batch", "16",
                                    "--latency-seconds", "0", "--json", report})
                  .code,
              0);
    const json found = tools::parse_json_or_null(read_file(report));
    EXPECT_EQ(found["top1"], result[which]["test_top1"]) << which;
    EXPECT_EQ(found["macro_f1"], result[which]["test_macro_f1"]) << which;
    EXPECT_NEAR(found["loss"], result[which]["test_loss"], 1e-6) << which;
  }
}

TEST_F(TrainSelectionTest, AResumedRunHasTheSameFiles) {
  const std::string stopped = folder_->file("stopped");
  const auto first_epoch_done = [](const std::string& out) { return contains(out, "epoch 1/3"); };
  ASSERT_EQ(run_tool("train", small_run(stopped, kQuick), SIGINT, first_epoch_done).code, 130);
  EXPECT_FALSE(fs::exists(stopped + "/result.json"));
  ASSERT_EQ(run_tool("train", resumed_run(stopped)).code, 0);
  EXPECT_EQ(timeless_lines(stopped), timeless_lines(run()));
  EXPECT_EQ(result_of(stopped), result_of(run()));
  // Killed between the last epoch and the test.
  const std::string untested = copy("untested");
  fs::remove(untested + "/result.json");
  std::string lines = read_file(untested + "/metrics.jsonl");
  lines.resize(lines.rfind('\n', lines.size() - 2) + 1);
  write_file(untested + "/metrics.jsonl", lines);
  ASSERT_EQ(run_tool("train", resumed_run(untested)).code, 0);
  EXPECT_EQ(timeless_lines(untested), timeless_lines(run()));
  EXPECT_EQ(result_of(untested), result_of(run()));
}

TEST_F(TrainSelectionTest, AFinishedRunIsTestedAgainOnlyWhenItGoesOn) {
  const std::string other = copy("finished");
  const std::string before = read_file(other + "/result.json");
  const ToolResult again = run_tool("train", resumed_run(other));
  ASSERT_EQ(again.code, 0) << again.err;
  EXPECT_THAT(again.out, HasSubstr("was tested before"));
  EXPECT_EQ(read_file(other + "/result.json"), before);
  EXPECT_EQ(timeless_lines(other), timeless_lines(run()));
  const ToolResult longer = run_tool("train", resumed_run(other, {"--epochs", "4", "--allow-changes"}));
  ASSERT_EQ(longer.code, 0) << longer.err;
  EXPECT_THAT(longer.err, HasSubstr("this run was tested already"));
  EXPECT_EQ(lines_of(other + "/metrics.jsonl").size(), 5u);
  EXPECT_EQ(result_of(other)["last"]["epoch"], 4);
}

TEST_F(TrainSelectionTest, OtherValidationImagesNeedAWord) {
  const std::string other = copy("reselected");
  expect_refusal(run_tool("train", resumed_run(other, {"--validation", "12"})), 2,
                 {"validation: '16' -> '12'", "--allow-changes"});
  const std::string before = read_file(other + "/result.json");
  const ToolResult late = run_tool("train", resumed_run(other, {"--validation", "12", "--allow-changes"}));
  EXPECT_EQ(late.code, 2);
  EXPECT_THAT(late.err, HasSubstr("no epoch is left to select on other images"));
  EXPECT_EQ(read_file(other + "/result.json"), before);
  const ToolResult changed =
      run_tool("train", resumed_run(other, {"--validation", "12", "--epochs", "4", "--allow-changes"}));
  ASSERT_EQ(changed.code, 0) << changed.err;
  EXPECT_THAT(changed.err, HasSubstr("the best epoch is looked for anew"));
  EXPECT_EQ(result_of(other)["best"]["epoch"], 4);
}

TEST_F(TrainSelectionTest, WithoutValidationItSaysWhatItIsSelectedOn) {
  const std::string out = folder_->file("peeking");
  const ToolResult result = run_tool(
      "train", joined(kQuick, {"--device", "cpu", "--limit-train", "32", "--limit-test", "16", "--batch",
                               "16", "--epochs", "3", "--validation", "0", "--out", out}));
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("selects on the test split, which it is measured on too"));
  EXPECT_THAT(result.out, HasSubstr("selected and measured on the same 16 images of test (--validation 0)"));
  EXPECT_THAT(result.out, HasSubstr(", flattered by the choice)"));
  const std::vector<json> lines = lines_of(out + "/metrics.jsonl");
  ASSERT_EQ(lines.size(), 3u);
  for (const json& line : lines) EXPECT_EQ(line["selected_on"], "test");
  EXPECT_EQ(tools::parse_json_or_null(read_file(out + "/config.json"))["run"]["selected_on"], "test");
  const json r = result_of(out);
  EXPECT_EQ(r["selected_on"], "test");
  EXPECT_EQ(r["last"]["test_top1"], lines.back()["test_top1"]);
  EXPECT_EQ(r["best"]["test_top1"], lines.back()["best_top1"]);
}

// Two classes, dark and bright; in the split test they have each other's names, so that what learns the one
// unlearns the other.
TEST(TrainSelectionFolderTest, TheBestEpochFollowsTheValidationImages) {
  const TemporaryFolder folder;
  const std::string data = folder.file("data");
  for (const std::string split : {"train", "val", "test"})
    for (int i = 0; i < 24; ++i)
      for (const bool bright : {false, true}) {
        const std::string name = bright == (split != "test") ? "bright" : "dark";
        data::Image image{16, 16, {}};
        for (int k = 0; k < 16 * 16 * 3; ++k)
          image.pixels.push_back(uint8_t((bright ? 150 : 60) + (k * 7 + i * 13) % 40));
        data::write_below(fs::path(data) / split / name / message("{}.png", i), data::encode_png(image));
      }
  const auto train = [&](const std::string& out, const std::string& epochs, const Words& more) {
    const Words words = {"--device",       "cpu",
                         "--threads",      "1",
                         "--model",        "squeezenet1_1",
                         "--stem",         "cifar",
                         "--data",         "imagefolder",
                         "--data-dir",     data,
                         "--cache-dir",    folder.file("cache"),
                         "--image-size",   "16",
                         "--batch",        "8",
                         "--epochs",       epochs,
                         "--optimizer",    "adam",
                         "--lr",           "5e-4",
                         "--crop-padding", "0",
                         "--out",          folder.file(out)};
    const ToolResult result = run_tool("train", joined(words, more));
    EXPECT_EQ(result.code, 0) << result.err;
    return result.out;
  };
  const std::string said = train("honest", "5", {});
  EXPECT_THAT(said, HasSubstr("selected on 48 validation images (the split val), tested once on 48"));
  const json honest = result_of(folder.file("honest"));
  double highest = -1;
  int epoch = 0;
  for (const json& line : epochs_of(folder.file("honest")))
    if (line["validation_top1"] > highest) highest = line["validation_top1"], epoch = line["epoch"];
  EXPECT_EQ(honest["best"]["epoch"], epoch);
  EXPECT_EQ(honest["best"]["selected_top1"], highest);
  EXPECT_GT(highest, 0.9);
  EXPECT_LT(honest["best"]["test_top1"], 0.1);
  train("peeking", "5", {"--validation", "0"});
  EXPECT_GE(result_of(folder.file("peeking"))["best"]["test_top1"], 0.4);
  EXPECT_NE(result_of(folder.file("peeking"))["best"]["epoch"], epoch);
  // Asked for, training images are held out although there is val.
  EXPECT_THAT(train("held_out", "1", {"--validation", "0.25"}),
              HasSubstr("selected on 12 validation images (25 % of the training set)"));
}

}  // namespace
}  // namespace plume::test::train_selection_test
