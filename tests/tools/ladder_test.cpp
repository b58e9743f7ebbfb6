// tools/ladder.sh: tables that nobody writes by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "engine/profiler/kernel_counts.h"
#include "tests/support/test_support.h"
#include "tests/support/tool_runner.h"

namespace plume::test::ladder_test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

ToolResult ladder(const std::string& arguments) {
  const std::string program = PLUME_BINARY_DIR "/bin/profile", script = PLUME_SOURCE_DIR "/tools/ladder.sh";
  return run_command("/bin/sh", {"-c", "PROFILE=" + program + " JOBS=1 " + script + " " + arguments});
}

bool without_python() { return run_command("/bin/sh", {"-c", "python3 -c 'import json'"}).code != 0; }
bool counts() { return kernel_counter(Device::simt).counts_memory(); }

// A checkout with nothing but pages that have markers.
class Ladder : public testing::Test {
 protected:
  void SetUp() override {
    if (without_python()) GTEST_SKIP() << "there is no python3";
    fs::create_directories(folder_.path() / "kernels/lessons");
    fs::create_directories(folder_.path() / kResults);
  }
  std::string root() const { return " --root " + folder_.path().string(); }
  std::string page() const { return folder_.file(std::string(kResults) + "/README.md"); }

  static constexpr const char* kResults = "bench/results/predictions-h100";
  const TemporaryFolder folder_;
};

// The tables that are checked in are those of the predictions beside them.
TEST_F(Ladder, TablesAreThoseOfTheKeptPredictions) {
  std::vector<std::string> pages{"kernels/README.md"};
  for (const char* place : {"kernels/lessons", kResults})
    for (const auto& file : fs::directory_iterator(fs::path(PLUME_SOURCE_DIR) / place))
      pages.push_back(std::string(place) + "/" + file.path().filename().string());
  for (const std::string& page : pages)
    fs::copy_file(fs::path(PLUME_SOURCE_DIR) / page, folder_.path() / page);
  const ToolResult result = ladder("--tables" + root());
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  EXPECT_THAT(result.out, HasSubstr("wrote estimates, kernels, ladders, lesson-bank-conflicts"));
  EXPECT_GT(pages.size(), 5u);
  for (const std::string& page : pages)
    EXPECT_EQ(read_file(folder_.file(page)), read_file(PLUME_SOURCE_DIR "/" + page))
        << page << ": run tools/ladder.sh --tables";
}

TEST_F(Ladder, WritesBetweenMarkersAndNowhereElse) {
  if (!counts()) GTEST_SKIP() << "simt is built without counters";
  const std::string before = "# Mine\n\n<!-- ladder networks -->\nold\n<!-- /ladder -->\n\nprose\n",
                    kernels = "<!-- ladder kernels -->\n<!-- /ladder -->\n",
                    estimates = "<!-- ladder estimates -->\n<!-- /ladder -->\nend\n";
  write_file(page(), before + kernels + estimates);
  const ToolResult result = ladder("--networks --models shufflenet_v2_x1_0 --size 32 --batch 2,3" + root());
  ASSERT_EQ(result.code, 0) << result.err;
  const std::string text = read_file(page());
  EXPECT_TRUE(text.starts_with("# Mine\n\n<!-- ladder networks -->\n| network | pass |")) << text;
  EXPECT_TRUE(text.ends_with("<!-- /ladder -->\nend\n")) << text;
  EXPECT_THAT(text, HasSubstr("<!-- /ladder -->\n\nprose\n<!-- ladder kernels -->\n| kernel |"));
  EXPECT_THAT(text, HasSubstr("| us, batch 2 | us, batch 3 | thousand images/s |"));
  EXPECT_THAT(text, HasSubstr("| ShuffleNetV2 x1.0 | training | "));
  EXPECT_THAT(text, HasSubstr("| `depthwise_conv2d.forward/stream` | "));
  EXPECT_THAT(text, HasSubstr("| the network does not make this call |"));  // the estimates are for 224
  EXPECT_EQ(text.find("old"), text.npos);
  // Once more from what is kept: the same.
  ASSERT_EQ(ladder("--tables" + root()).code, 0);
  EXPECT_EQ(read_file(page()), text);
}

TEST_F(Ladder, ShowsASlotsVariants) {
  if (!counts()) GTEST_SKIP() << "simt is built without counters";
  const ToolResult none = ladder("depthwise_conv2d.forward --size 64 --batch 2 --shape 28x28x88");
  EXPECT_EQ(none.code, 2);  // at this size
  EXPECT_EQ(none.out, "");
  EXPECT_THAT(none.err, HasSubstr("the network does not call depthwise_conv2d.forward/direct with 28x28x88"));
  const ToolResult fits =
      ladder("depthwise_conv2d.forward --mode training --size 64 --batch 8 --dtype bf16 --shape '8x8x88>'");
  ASSERT_EQ(fits.code, 0) << fits.err;
  for (const char* word :
       {"variant", "% of limit", "direct", "tiled", "rows", "stream", "wide_stream", "latency"})
    EXPECT_THAT(fits.out, HasSubstr(word));
  EXPECT_EQ(std::count(fits.out.begin(), fits.out.end(), '\n'), 6) << fits.out;
}

TEST_F(Ladder, MistakesAreNamed) {
  const auto refused = [](const ToolResult& result, int code, const char* words) {
    EXPECT_EQ(result.code, code) << result.err;
    EXPECT_THAT(result.err, HasSubstr(words));
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  };
  refused(ladder("--network"), 2, "unknown argument '--network'");
  refused(ladder("--models resnet81"), 2, "--models: 'resnet81' is not one of mobilenet_v3_small");
  refused(ladder("--batch 1,many"), 2, "--batch: expected numbers separated by commas, found '1,many'");
  refused(ladder("conv3d.forward"), 2, "conv3d.forward has no variant on simt");
  refused(run_command("/bin/sh", {"-c", "PROFILE=/nowhere " PLUME_SOURCE_DIR "/tools/ladder.sh --networks"}),
          2, "expected a build with counters, found no /nowhere");
  if (!counts() && !fs::exists(PLUME_BINARY_DIR "/lib/counters/libplume.so"))
    refused(ladder("--networks" + root()), 1, "its target plume_counted");
  const std::string kept = std::string(kResults) + "/networks.json";
  fs::copy_file(fs::path(PLUME_SOURCE_DIR) / kept, folder_.path() / kept);
  write_file(page(), "<!-- ladder networks -->\n");
  refused(ladder("--tables" + root()), 1, "a marker is not closed");
  write_file(page(), "<!-- ladder network -->\n<!-- /ladder -->\n");
  refused(ladder("--tables" + root()), 1, "there is no table 'network', only estimates, kernels, networks");
  write_file(page(), "nothing\n");
  refused(ladder("--tables" + root()), 1, "no file has a marker for estimates, kernels, networks");
}

}  // namespace
}  // namespace plume::test::ladder_test
