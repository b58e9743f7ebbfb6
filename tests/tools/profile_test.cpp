// profile as a user runs it.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/test_support.h"
#include "tests/support/tool_runner.h"
#include "tools/cli/json.h"

namespace plume::test::profile_test {
namespace {

using json = tools::Json;

const std::vector<std::string> kQuick{"--device",  "cpu",  "--size",    "32",
                                      "--seconds", "0.05", "--threads", "1"};

ToolResult run_quick(std::vector<std::string> more) {
  more.insert(more.begin(), kQuick.begin(), kQuick.end());
  return run_tool("profile", more);
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }

// One line where more threads are asked for than there are cores, none otherwise.
TEST(Profile, WarnsOfMoreThreadsThanCores) {
  const ToolResult many =
      run_tool("profile", {"--device", "cpu", "--size", "32", "--seconds", "0.05", "--threads", "4096"});
  ASSERT_EQ(many.code, 0) << many.err;
  EXPECT_TRUE(contains(many.err, "profile: --threads 4096: this process may use ")) << many.err;
  EXPECT_EQ(std::count(many.err.begin(), many.err.end(), '\n'), 1) << many.err;
  EXPECT_FALSE(contains(run_quick({}).err, "--threads"));
}

TEST(Profile, WritesTablesTracesAndPictures) {
  const TemporaryFolder folder;
  const ToolResult result =
      run_quick({"--mode", "training", "--batch", "2", "--json", folder.file("p.json"), "--csv",
                 folder.file("p.csv"), "--trace", folder.file("t.json"), "--svg", folder.file("p")});
  ASSERT_EQ(result.code, 0) << result.err;
  for (const char* word : {"ceilings  copy", "images/s", "parameter", "depthwise", "batch norm", "optimizer",
                           "outside operations", "slowest 15 of", "features."})
    EXPECT_TRUE(contains(result.out, word)) << word << "\n" << result.out;

  const json report = tools::parse_json_or_null(read_file(folder.file("p.json")));
  EXPECT_EQ(report["model"], "mobilenet_v3_small");
  EXPECT_EQ(report["classes"], 10);
  EXPECT_EQ(report["parameters"], 2'542'856 - 1025 * 990);
  double sum = report["outside_seconds"], percent = 0;
  for (const json& row : report["rows"]) {
    sum += row["seconds"].get<double>();
    percent += row["percent_of_step"].get<double>();
    EXPECT_TRUE(row["launches"].is_null());
  }
  EXPECT_NEAR(sum, report["step_seconds"].get<double>(), 1e-9);
  EXPECT_LT(percent, 100);
  EXPECT_GT(percent, 0);
  const json& sgd = report["rows"].back();
  EXPECT_EQ(sgd["layer"], "optimizer");
  EXPECT_EQ(sgd["class"], "optimizer");
  EXPECT_EQ(sgd["bytes"], 20.0 * report["parameters"].get<double>());
  EXPECT_GT(report["peak_bytes_by_tag"]["optimizer"], 4 * report["parameters"].get<int64_t>() - 1);

  const std::string csv = read_file(folder.file("p.csv"));
  const auto lines = size_t(std::count(csv.begin(), csv.end(), '\n'));
  EXPECT_EQ(lines, report["rows"].size() + 2);  // the header, what is outside
  const auto columns = std::count(csv.begin(), csv.begin() + ptrdiff_t(csv.find('\n')), ',');
  EXPECT_EQ(size_t(std::count(csv.begin(), csv.end(), ',')), size_t(columns) * lines);

  EXPECT_GT(tools::parse_json_or_null(read_file(folder.file("t.json")))["traceEvents"].size(),
            report["rows"].size());
  for (const char* name : {"p-roofline.svg", "p-layers.svg"}) {
    const std::string svg = read_file(folder.file(name));
    EXPECT_TRUE(svg.starts_with("<svg ") && svg.ends_with("</svg>\n")) << name;
    EXPECT_TRUE(contains(svg, "features.1.block.0.0")) << name;
    EXPECT_FALSE(contains(svg, "nan") || contains(svg, "inf")) << name;
  }
}

TEST(Profile, ComparesTwoVariantsSideBySide) {
  const ToolResult result =
      run_quick({"--model", "resnet18", "--compare", "conv2d.forward=direct,indirect_gemm"});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(contains(result.out, "layer4.1.conv2")) << result.out;
  EXPECT_TRUE(contains(result.out, "direct") && contains(result.out, "indirect_gemm")) << result.out;
}

TEST(Profile, ListsVariants) {
  const ToolResult result = run_tool("profile", {"--device", "cpu", "--list-variants"});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(contains(result.out, "conv2d.forward\n  cpu "));
}

// A convolution and its batch norm are one call in a training step of small images, unless asked otherwise.
TEST(Profile, TrainsUnfused) {
  const auto profile = [](std::vector<std::string> more) {
    std::vector<std::string> flags{
        "--device", "simt", "--model", "shufflenet_v2_x0_5", "--size",    "32",   "--batch", "2",
        "--dtype",  "bf16", "--mode",  "training",           "--seconds", "0.01", "--all"};
    flags.insert(flags.end(), more.begin(), more.end());
    const ToolResult result = run_tool("profile", flags);
    EXPECT_EQ(result.code, 0) << result.err;
    return result.out;
  };
  EXPECT_TRUE(contains(profile({}), "conv_batch_norm"));
  EXPECT_FALSE(contains(profile({"--unfused"}), "conv_batch_norm"));
}

TEST(Profile, RefusesWhatItCannotDo) {
  expect_refusal(run_quick({"--all", "--top", "3"}), 2, {"--all", "--top"});
  expect_refusal(run_quick({"--model", "resnet81"}), 2, {"resnet81"});
  const ToolResult no_roof = run_quick({"--dtype", "bf16", "--svg", "p"});
  EXPECT_EQ(no_roof.code, 2);
  EXPECT_TRUE(contains(no_roof.err, "ceilings, which are not known for bf16 on cpu")) << no_roof.err;
  expect_refusal(run_quick({"--batch", "0"}), 2, {"--batch", "'0'"});
  expect_refusal(run_quick({"--compare", "conv2d.forward"}), 2, {"slot=variant,variant"});
  expect_refusal(run_quick({"--compare", "conv2d.forward=direct,"}), 2, {"slot=variant,variant"});
  expect_refusal(run_quick({"--compare", "conv2d.forward=direct,fast"}), 2, {"conv2d.forward", "'fast'"});
  expect_refusal(run_quick({"--compare", "conv3d.forward=a,b"}), 2, {"conv3d.forward"});
  expect_refusal(run_quick({"--compare", "conv2d.forward=direct,direct", "--json", "x"}), 2, {"--compare"});
  expect_refusal(run_quick({"--compare", "sgd_step=loop,loop"}), 2, {"does not call sgd_step"});
}

}  // namespace
}  // namespace plume::test::profile_test
