// models as a user runs it: the published numbers, and what it refuses.
#include <gtest/gtest.h>

#include "models/registry.h"
#include "tests/support/tool_runner.h"
#include "tools/cli/json.h"

namespace plume::test::models_test {
namespace {

using json = tools::Json;

// By torchvision's definitions: parameters with 1000 classes, MACs of convolutions and linear layers at
// 224x224.
struct Published {
  const char* model;
  int64_t parameters, macs;
};
constexpr Published kPublished[] = {
    {"resnet18", 11'689'512, 1'814'073'344},          {"mobilenet_v3_small", 2'542'856, 56'510'400},
    {"squeezenet1_0", 1'248'424, 818'924'576},        {"squeezenet1_1", 1'235'496, 349'151'936},
    {"efficientnet_v2_s", 21'458'488, 2'849'895'872}, {"shufflenet_v2_x0_5", 1'366'792, 40'476'448},
    {"shufflenet_v2_x1_0", 2'278'604, 144'907'992}};

TEST(Models, ListsThePublishedNumbers) {
  const ToolResult result = run_tool("models", {"--size", "224", "--json"});
  ASSERT_EQ(result.code, 0) << result.err;
  const json rows = tools::parse_json_or_null(result.out);
  ASSERT_EQ(rows.size(), std::size(kPublished));
  ASSERT_EQ(model_names().size(), std::size(kPublished));
  for (size_t i = 0; i < rows.size(); ++i) {
    const json& row = rows[i];
    EXPECT_EQ(row["model"], kPublished[i].model);
    EXPECT_EQ(row["parameters"], kPublished[i].parameters) << row["model"];
    EXPECT_EQ(row["macs"], kPublished[i].macs) << row["model"];
    EXPECT_EQ(row["flops"], 2 * kPublished[i].macs) << row["model"];
    int64_t sum = 0;
    for (const auto& kind : row["macs_by_kind"]) sum += kind.get<int64_t>();
    EXPECT_EQ(sum, kPublished[i].macs) << row["model"];
    // The input and the first layer's output, at least; training keeps more than is alive at once.
    EXPECT_GT(row["activation_bytes_evaluation"], 224 * 224 * 3 * 4);
    EXPECT_GT(row["activation_bytes_training"], row["activation_bytes_evaluation"]);
  }
}

TEST(Models, TakesClassesAndStem) {
  const ToolResult result = run_tool(
      "models", {"--model", "resnet18", "--size", "32", "--classes", "10", "--stem", "cifar", "--json"});
  ASSERT_EQ(result.code, 0) << result.err;
  const json row = tools::parse_json_or_null(result.out)[0];
  // The stem's 3x3 filter instead of 7x7, and the classifier.
  EXPECT_EQ(row["parameters"], 11'689'512 - 64 * 3 * (49 - 9) - 513 * 990);
  EXPECT_EQ(row["classes"], 10);
}

TEST(Models, RefusesUnknownOnesAndTinyInputs) {
  expect_refusal(run_tool("models", {"--model", "resnet81"}), 2, {"resnet81", "resnet18"});
  expect_refusal(run_tool("models", {"--size", "31"}), 2, {"--size", "31", "from 32 to 4096"});
}

}  // namespace
}  // namespace plume::test::models_test
