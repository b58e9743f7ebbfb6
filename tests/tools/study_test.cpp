// study as a user runs it: plans, restarts, claims, failures and the report.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <thread>

#include "engine/core/error.h"
#include "tests/support/test_support.h"
#include "tests/support/tool_runner.h"
#include "tools/cli/json.h"
#include "tools/study/paper.h"
#include "tools/study/plan.h"

namespace plume::test::study_test {
namespace {

namespace fs = std::filesystem;
using json = tools::Json;
using testing::ElementsAre;
using testing::HasSubstr;
using Words = std::vector<std::string>;

// Two networks that train for one step, one that cannot (its learning rate is no number), one without
// weights.
const json kRecipe = {
    {"title", "A small <study>"},
    {"about", "Of <drawn> shapes."},
    {"settings",
     {{"epochs", 1}, {"batch", 8}, {"limit-train", 20}, {"limit-test", 10}, {"warmup-epochs", 0}}},
    {"groups",
     {{{"name", "networks"},
       {"kind", "main"},
       {"axes",
        {{"model", {"squeezenet1_1", "shufflenet_v2_x0_5"}},
         {"data", {"synthetic"}},
         {"start", {"scratch"}}}}},
      {{"name", "weights"},
       {"kind", "main"},
       {"axes", {{"model", {"squeezenet1_1"}}, {"data", {"synthetic"}}, {"start", {"pretrained"}}}}},
      {{"name", "rates"},
       {"title", "Learning rates"},
       {"axes",
        {{"model", {"squeezenet1_1"}},
         {"data", {"synthetic"}},
         {"start", {"scratch"}},
         {"variant", {{"as above", json::object()}, {"none", {{"lr", "nan"}}}}}}}}}}};

const char *kFirst = "squeezenet1_1-synthetic-scratch", *kSecond = "shufflenet_v2_x0_5-synthetic-scratch",
           *kNoWeights = "squeezenet1_1-synthetic-pretrained",
           *kFailing = "squeezenet1_1-synthetic-scratch-rates-none";

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++found;
  return found;
}

class StudyTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    write_file(folder_->file("recipe.json"), tools::to_text(kRecipe));
    const ToolResult result = study("whole");
    ASSERT_EQ(result.code, 0) << result.err;
  }
  static void TearDownTestSuite() { delete folder_; }

  static Words command(const std::string& out, const Words& more = {}) {
    Words words = {"--recipe",
                   folder_->file("recipe.json"),
                   "--out",
                   folder_->file(out),
                   "--device",
                   "cpu",
                   "--threads",
                   "1",
                   "--workers",
                   "0",
                   "--latency-seconds",
                   "0"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  static ToolResult study(const std::string& out, const Words& more = {}) {
    return run_tool("study", command(out, more));
  }
  static std::string file(const std::string& path) { return folder_->file(path); }
  static json report(const std::string& out) {
    return tools::parse_json_or_null(read_file(file(out + "/study.json")));
  }
  static std::string cell_file(const std::string& out, const std::string& cell, const char* name) {
    return file(out + "/cells/" + cell + "/" + name);
  }
  static json table(const json& study, const std::string& id) {
    for (const json& t : study["tables"])
      if (t["id"] == id) return t;
    ADD_FAILURE() << "no table " << id;
    return {};
  }

  // Without what a clock or the operating system says.
  static json timeless(json study) {
    for (json& t : study["tables"])
      for (json& row : t["rows"])
        for (const char* key : {"minutes", "memory_train", "memory_evaluate"}) row.erase(key);
    for (json& cell : study["cells"]) {
      for (const char* key : {"seconds", "peak_memory_bytes"}) cell.erase(key);
      if (cell.contains("evaluation")) cell["evaluation"].erase("weights");
      if (!cell.contains("curve")) continue;
      for (json& epoch : cell["curve"]) {
        const json all = epoch;
        for (const auto& [key, value] : all.items())
          if (key.find("second") != std::string::npos || key.find("memory") != std::string::npos)
            epoch.erase(key);
      }
    }
    return study;
  }

  static TemporaryFolder* folder_;
};
TemporaryFolder* StudyTest::folder_ = nullptr;

TEST_F(StudyTest, RunsEveryCellAndSaysWhatFailed) {
  const json r = report("whole");
  EXPECT_EQ(r["counts"],
            json({{"planned", 4}, {"done", 2}, {"failed", 1}, {"weights missing", 1}, {"not run yet", 0}}));
  ASSERT_EQ(r["cells"].size(), 4u);
  const json& first = r["cells"][0];
  EXPECT_EQ(first["id"], kFirst);
  EXPECT_EQ(first["curve"].size(), 1u);
  EXPECT_EQ(first["native_size"], 32);
  EXPECT_EQ(first["macs_native"], first["evaluation"]["macs"]);
  EXPECT_EQ(first["explanations"].size(), 3u);
  for (const json& e : first["explanations"])
    EXPECT_TRUE(e["overlay"].get<std::string>().starts_with("data:image/png;base64,iVBORw0KGgo")) << e;
  const json cells = table(r, "cells")["rows"];
  for (const json& row : cells)
    if (row["cell"] == kFailing) {
      EXPECT_EQ(row["state"], "failed");
      EXPECT_THAT(row["error"].get<std::string>(), HasSubstr("train: --lr"));
      EXPECT_THAT(row["error"].get<std::string>(), HasSubstr("nan"));
    } else if (row["cell"] == kNoWeights) {
      EXPECT_EQ(row["state"], "not run: weights missing");
    }
}

TEST_F(StudyTest, TablesHoldTheEvaluationsFigures) {
  const json r = report("whole");
  const json evaluation =
      tools::parse_json_or_null(read_file(cell_file("whole", kSecond, "evaluation.json")));
  const json row = table(r, "accuracy-synthetic")["rows"][1];
  EXPECT_EQ(row["network"], row["chance"] ? "ShuffleNetV2 x0.5 †" : "ShuffleNetV2 x0.5");
  EXPECT_DOUBLE_EQ(row["top1"], 100 * evaluation["top1"].get<double>());
  EXPECT_EQ(row["macro_f1"], evaluation["macro_f1"]);
  EXPECT_EQ(row["selected_on"], "10 validation images");
  EXPECT_EQ(r["selection"], (json{{"validation", 2}, {"test", 0}}));
  const json result = tools::parse_json_or_null(read_file(cell_file("whole", kSecond, "run/result.json")));
  EXPECT_EQ(result["best"]["test_top1"], evaluation["top1"]);
  EXPECT_DOUBLE_EQ(row["top1_last"], 100 * result["last"]["test_top1"].get<double>());
  const json cost = table(r, "cost-synthetic")["rows"][1];
  EXPECT_DOUBLE_EQ(cost["flops_224"], 2 * cost["macs_224"].get<double>());
  EXPECT_DOUBLE_EQ(cost["size_mib"], evaluation["parameters"].get<double>() * 4 / 1048576);
  // The variant without changes is the main group's cell.
  EXPECT_EQ(table(r, "ablation-rates")["rows"][0]["top1"], table(r, "accuracy-synthetic")["rows"][0]["top1"]);
}

TEST_F(StudyTest, MarkdownCsvAndPageSayTheSame) {
  const json r = report("whole");
  const std::string markdown = read_file(file("whole/report.md")), csv = read_file(file("whole/cells.csv"));
  for (const json& row : table(r, "cells")["rows"]) {
    EXPECT_THAT(markdown, HasSubstr(message("| {} | {}", row["cell"].get<std::string>(),
                                            row["state"].get<std::string>())));
    EXPECT_THAT(csv, HasSubstr(message("\n{},", row["cell"].get<std::string>())));
  }
  EXPECT_EQ(count(csv, "\n"), 5u);
  const std::string page = read_file(file("whole/report.html"));
  const std::string open = "id=\"data\">";
  const size_t at = page.find(open) + open.size();
  EXPECT_EQ(tools::parse_json_or_null(page.substr(at, page.find("</script>", at) - at)), r);
  EXPECT_EQ(page.find("<study>"), std::string::npos);  // data cannot end the script
  for (const char* outside : {"src=\"http", "href=\"http", "@import", "url(http"})
    EXPECT_EQ(page.find(outside), std::string::npos) << outside;
}

TEST_F(StudyTest, FinishedCellsAreKept) {
  const std::string log = read_file(cell_file("whole", kFirst, "log.txt"));
  const json before = report("whole");
  ASSERT_EQ(study("whole").code, 0);
  EXPECT_EQ(read_file(cell_file("whole", kFirst, "log.txt")), log);
  EXPECT_TRUE(report("whole") == before);
  // Only a failed cell runs again, and only when asked to.
  ASSERT_EQ(study("whole", {"--retry"}).code, 0);
  EXPECT_EQ(count(read_file(cell_file("whole", kFailing, "log.txt")), "$ train"), 2u);
  EXPECT_EQ(read_file(cell_file("whole", kFirst, "log.txt")), log);
  EXPECT_TRUE(timeless(report("whole")) == timeless(before));
}

TEST_F(StudyTest, AKilledStudyGoesOnToTheSameReport) {
  const auto at_the_second = [](const std::string& out) { return out.find("[2/4]") != std::string::npos; };
  EXPECT_EQ(run_tool("study", command("killed"), SIGKILL, at_the_second).code, 128 + SIGKILL);
  EXPECT_FALSE(fs::exists(file("killed/study.json")));
  ASSERT_EQ(study("killed").code, 0);
  EXPECT_EQ(timeless(report("killed"))["tables"], timeless(report("whole"))["tables"]);
  EXPECT_EQ(timeless(report("killed"))["figures"], timeless(report("whole"))["figures"]);
}

TEST_F(StudyTest, AnInterruptedStudySaysSoAndReportsWhatIsThere) {
  const auto at_the_second = [](const std::string& out) { return out.find("[2/4]") != std::string::npos; };
  const ToolResult stopped = run_tool("study", command("interrupted"), SIGINT, at_the_second);
  EXPECT_EQ(stopped.code, 130) << stopped.err;
  EXPECT_THAT(stopped.err, HasSubstr("interrupted"));
  EXPECT_EQ(report("interrupted")["counts"]["done"], 1);
}

TEST_F(StudyTest, ProcessesAtOnceNeverDoTheSameCell) {
  std::vector<ToolResult> results(2);
  std::vector<std::thread> threads;
  for (ToolResult& result : results) threads.emplace_back([&result] { result = study("shared"); });
  for (std::thread& thread : threads) thread.join();
  for (const ToolResult& result : results) EXPECT_EQ(result.code, 0) << result.err;
  for (const char* cell : {kFirst, kSecond, kFailing})
    EXPECT_EQ(count(read_file(cell_file("shared", cell, "log.txt")), "$ train"), 1u) << cell;
  EXPECT_EQ(timeless(report("shared"))["tables"], timeless(report("whole"))["tables"]);
}

TEST_F(StudyTest, OtherSettingsNeedAnotherFolder) {
  expect_refusal(study("whole", {"--epochs", "2"}), 2, {kFirst, "epochs: 1 -> 2"});
}

TEST_F(StudyTest, ShardsAndSelections) {
  EXPECT_EQ(study("none", {"--list", "--shard", "1/2"}).out, message("{}\n{}\n", kSecond, kFailing));
  EXPECT_EQ(study("none", {"--list", "--models", "shufflenet_v2_x0_5"}).out, message("{}\n", kSecond));
  EXPECT_FALSE(fs::exists(file("none")));
  expect_refusal(study("none", {"--shard", "2/2"}), 2, {"--shard", "2"});
  expect_refusal(study("none", {"--shard", "half"}), 2, {"--shard", "half"});
  expect_refusal(study("none", {"--models", "resnet18"}), 2, {"nothing is left"});
  expect_refusal(study("none", {"--set", "lr"}), 2, {"--set", "lr"});
  expect_refusal(study("none", {"--quick"}), 2, {"--quick", "--recipe"});
  expect_refusal(run_tool("study", {"--out", file("none"), "--recipe", "papre"}), 2,
                 {"papre", "paper, quick"});
  expect_refusal(run_tool("study", {"--out", file("none"), "--recipe", file("no.json")}), 3, {"no.json"});
  expect_refusal(study("recipe.json"), 4, {"--out"});
}

// A real browser draws the page: no errors on its console, and every table is as the JSON has it.
TEST_F(StudyTest, ABrowserShowsThePage) {
  const char* browser = fs::exists("/usr/bin/chromium") ? "/usr/bin/chromium" : nullptr;
  if (!browser) GTEST_SKIP() << "chromium is not installed: the page is not looked at";
  const std::string dom = file("dom.html"), log = file("console.txt"), shot = file("page.png");
  const std::string line = std::string(browser) +
                           " --headless --no-sandbox --disable-gpu --enable-logging=stderr --v=0 " +
                           "--user-data-dir=" + file("profile") + " ";
  const std::string url = message("file://{}", file("whole/report.html"));
  ASSERT_EQ(std::system((line + "--dump-dom " + url + " > " + dom + " 2> " + log).c_str()), 0)
      << read_file(log);
  EXPECT_EQ(read_file(log).find("CONSOLE"), std::string::npos) << read_file(log);
  const std::string text = read_file(dom);
  const json r = report("whole");
  for (const json& t : r["tables"]) {
    if (t["rows"].empty()) continue;
    const std::string id = message("<table id=\"table-{}\">", t["id"].get<std::string>());
    const size_t begin = text.find(id);
    ASSERT_NE(begin, std::string::npos) << id;
    const std::string html = text.substr(begin, text.find("</table>", begin) - begin);
    EXPECT_EQ(count(html, "<tr>"), t["rows"].size() + 1) << id;
    EXPECT_EQ(count(html, "</td>"), t["rows"].size() * t["columns"].size()) << id;
    for (const json& row : t["rows"])
      for (const json& column : t["columns"])
        if (const json value = row.value(column["key"].get<std::string>(), json()); value.is_number()) {
          char printed[64];
          std::snprintf(printed, sizeof printed, column["kind"] == "difference" ? ">%+.*f<" : ">%.*f<",
                        column["digits"].get<int>(), value.get<double>());
          EXPECT_NE(html.find(printed), std::string::npos) << id << " " << column["key"] << " " << printed;
        }
  }
  EXPECT_THAT(text, HasSubstr("<p id=\"about\">Of &lt;drawn&gt; shapes.</p>"));
  EXPECT_THAT(text, HasSubstr(" threads, 1 used (cpu, f32)"));
  // Numbers are the paper's figures', and stand only where its values do.
  EXPECT_EQ(text.find("Figure 6"), std::string::npos);
  EXPECT_THAT(text, HasSubstr("<h3>Top-1 accuracy (%)</h3>"));
  for (const json& figure : r["figures"])
    EXPECT_THAT(text, HasSubstr(message("id=\"figure-{}\"", figure["id"].get<std::string>())));
  ASSERT_EQ(
      std::system((line + "--window-size=1200,2400 --screenshot=" + shot + " " + url + " 2> " + log).c_str()),
      0);
  constexpr uintmax_t kEmptyPage = 30'000;  // bytes; a blank page of this size has a third
  EXPECT_GT(fs::file_size(shot), kEmptyPage);
}

// ---- plans ----

TEST(StudyPlanTest, LaterSettingsWin) {
  const json recipe = {{"title", "t"},
                       {"settings", {{"lr", 0.1}, {"nesterov", true}}},
                       {"overrides", {{{"when", {{"start", "pretrained"}}}, {"settings", {{"lr", 0.01}}}}}},
                       {"groups",
                        {{{"name", "g"},
                          {"axes",
                           {{"model", {"resnet18"}},
                            {"data", {"cifar10"}},
                            {"start", {"pretrained", "scratch"}},
                            {"variant", {{"A b", {{"optimizer", "adam"}}}}}}}}}}};
  const tools::StudyPlan plan = tools::plan_study(tools::to_text(recipe), "r", {{}, {}, {{"epochs", "7"}}});
  ASSERT_EQ(plan.cells.size(), 2u);
  EXPECT_EQ(plan.cells[0].id, "resnet18-cifar10-pretrained-g-a-b");
  using Setting = std::pair<std::string, std::string>;
  EXPECT_THAT(plan.cells[0].settings, ElementsAre(Setting("lr", "0.01"), Setting("nesterov", "true"),
                                                  Setting("optimizer", "adam"), Setting("epochs", "7")));
  EXPECT_EQ(plan.cells[1].settings[0], Setting("lr", "0.1"));
}

TEST(StudyPlanTest, WhatNoRecipeHasIsRefusedByPlace) {
  const auto refusal = [](const std::string& text) {
    try {
      tools::plan_study(text, "r.json", {});
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_input);
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  EXPECT_THAT(refusal("{"), HasSubstr("r.json: no JSON"));
  EXPECT_THAT(refusal("[]"), HasSubstr("expected an object"));
  EXPECT_THAT(refusal(std::string(100, '[')), HasSubstr("r.json"));
  const auto with = [&](const char* pointer, const json& value) {
    json recipe = kRecipe;
    recipe[json::json_pointer(pointer)] = value;
    return refusal(tools::to_text(recipe));
  };
  EXPECT_THAT(with("/titel", "x"), HasSubstr("nearest: 'title'"));
  EXPECT_THAT(with("/title", 3), HasSubstr("'title'"));
  EXPECT_THAT(with("/about", 3), HasSubstr("'about'"));
  EXPECT_THAT(with("/latency_seconds", -1), HasSubstr("'latency_seconds' is no number from 0 to 3600"));
  EXPECT_THAT(with("/latency_seconds", "1"), HasSubstr("'latency_seconds'"));
  EXPECT_EQ(with("/latency_seconds", 0.25), "accepted");
  EXPECT_THAT(with("/groups", json::array()), HasSubstr("'groups'"));
  EXPECT_THAT(with("/groups/0/kind", "mane"), HasSubstr("groups[0]: 'kind'"));
  EXPECT_THAT(with("/groups/0/axes/model/0", "resnet"), HasSubstr("nearest: 'resnet18'"));
  EXPECT_THAT(with("/groups/0/axes/start/0", "trained"), HasSubstr("groups[0].axes: start 'trained'"));
  EXPECT_THAT(with("/settings/lr", json::array()), HasSubstr("settings: 'lr'"));
  EXPECT_THAT(with("/settings/out", "x"), HasSubstr("'out' is set by the study"));
  EXPECT_THAT(with("/settings/-x y", 1), HasSubstr("no flag's name"));
}

TEST(PaperTest, FiguresAreThePapers) {
  const auto rows = tools::paper_rows();
  ASSERT_EQ(rows.size(), 15u);
  double accuracy = 0, f1 = 0, microseconds = 0, size = 0;
  for (const tools::PaperRow& row : rows) {
    accuracy += row.accuracy;
    f1 += row.macro_f1;
    microseconds += row.seconds_per_image * 1e6;
    size += row.size_mib;
  }
  // Sums of the printed columns.
  EXPECT_NEAR(accuracy, 468.38 + 416.36 + 302.81, 1e-9);
  EXPECT_NEAR(f1, 4.6589 + 4.1650 + 2.9530, 1e-9);
  EXPECT_NEAR(microseconds, 380 + 495 + 324, 1e-9);
  EXPECT_NEAR(size, 133.11 + 134.59 + 139.00, 1e-9);
  EXPECT_EQ(tools::find_paper_row("tiny-imagenet", "squeezenet1_1")->accuracy, 20.50);
  EXPECT_EQ(tools::find_paper_scratch("cifar100", "mobilenet_v3_small")->macro_f1, 0.8499);
  EXPECT_EQ(tools::find_paper_scratch("cifar100", "resnet18"), nullptr);
  EXPECT_EQ(tools::find_paper_row("synthetic", "resnet18"), nullptr);
}

}  // namespace
}  // namespace plume::test::study_test
