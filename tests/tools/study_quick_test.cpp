// What a newcomer runs first: networks learn, and the page says on what they were chosen.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/test_support.h"
#include "tests/support/tool_runner.h"
#include "tools/cli/json.h"

namespace plume::test::study_quick_test {
namespace {

using testing::HasSubstr;

// The cheap ones of the cells; the others take minutes on one thread.
TEST(StudyQuickTest, NetworksLearnTheEmbeddedSet) {
  const TemporaryFolder folder;
  const std::string out = folder.file("study");
  const ToolResult result =
      run_tool("study", {"--quick", "--models", "resnet18,squeezenet1_1,shufflenet_v2_x1_0", "--device",
                         "cpu", "--threads", "1", "--pictures", "0", "--out", out});
  ASSERT_EQ(result.code, 0) << result.err;
  const tools::Json study = tools::parse_json_or_null(read_file(out + "/study.json"));
  ASSERT_EQ(study["cells"].size(), 3u);
  EXPECT_TRUE(study["chance"].empty()) << study["chance"];
  EXPECT_EQ(study["selection"], (tools::Json{{"validation", 3}, {"test", 0}}));
  constexpr double kThreeTimesChance = 0.3;
  for (const tools::Json& cell : study["cells"]) {
    EXPECT_EQ(cell["state"], "done") << cell["error"];
    EXPECT_GT(cell["evaluation"]["top1"], kThreeTimesChance) << cell["id"];
    EXPECT_EQ(cell["result"]["selected_on"], "validation") << cell["id"];
    EXPECT_EQ(cell["result"]["best"]["test_top1"], cell["evaluation"]["top1"]) << cell["id"];
  }
  EXPECT_THAT(
      read_file(out + "/report.md"),
      HasSubstr("The best epochs of 3 cells were chosen on validation images; test images were looked "
                "at once, at the end."));
}

}  // namespace
}  // namespace plume::test::study_quick_test
