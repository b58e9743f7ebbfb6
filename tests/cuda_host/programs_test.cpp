// The programs on the stand-in: what they say there is what they say on the cpu.
#include <gmock/gmock.h>

#include <cmath>
#include <cstdlib>

#include "data/dataset.h"
#include "data/images/png.h"
#include "engine/serialization/state_dict.h"
#include "models/registry.h"
#include "tests/tools/training_run.h"

namespace plume::test::programs_test {
namespace {

using testing::HasSubstr;
using testing::Not;

ToolResult on_cuda(const std::string& tool, const Words& words) {
  const ToolResult result = run_tool(tool, joined({"--device", "cuda", "--threads", "1"}, words));
  EXPECT_THAT(result.err, Not(HasSubstr("stand-in:"))) << tool;
  return result;
}
json report_of(const std::string& path) { return tools::parse_json_or_null(read_file(path)); }

class ProgramsOnStandIn : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    // Each opening of the device's memory costs more the more of it is in use, and the ceilings of a profile
    // use much.
    setenv("PLUME_STAND_IN_GUARD", "0", 1);
    const auto model = make_model("shufflenet_v2_x0_5", {.num_classes = 10});
    save_state(weights(), *model, {{"format", "pt"}, {"resize", "36"}, {"crop", "32"}});
  }
  static void TearDownTestSuite() {
    unsetenv("PLUME_STAND_IN_GUARD");
    delete folder_;
  }
  static std::string weights() { return file("weights.safetensors"); }
  static std::string file(const std::string& name) { return folder_->file(name); }
  static inline TemporaryFolder* folder_ = nullptr;
};

TEST_F(ProgramsOnStandIn, EvaluateAgreesWithTheCpu) {
  const Words words{"--model",
                    "shufflenet_v2_x0_5",
                    "--weights",
                    weights(),
                    "--data",
                    "synthetic",
                    "--limit",
                    "11",
                    "--batch",
                    "4",
                    "--image-size",
                    "32",
                    "--latency-seconds",
                    "0"};
  ASSERT_EQ(on_cuda("evaluate", joined(words, {"--json", file("cuda.json")})).code, 0);
  ASSERT_EQ(run_tool("evaluate", joined(words, {"--device", "cpu", "--json", file("cpu.json")})).code, 0);
  const json cuda = report_of(file("cuda.json")), cpu = report_of(file("cpu.json"));
  EXPECT_EQ(cuda["device_name"], "stand-in (no GPU) (sm_90)");
  EXPECT_EQ(cuda["top1"], cpu["top1"]) << cuda.dump();
  EXPECT_EQ(cuda["images"], cpu["images"]);
  EXPECT_NEAR(cuda["loss"].get<double>(), cpu["loss"].get<double>(), 1e-4);
}

TEST_F(ProgramsOnStandIn, EvaluateTimesLatency) {
  const ToolResult result = on_cuda(
      "evaluate", {"--model", "shufflenet_v2_x0_5", "--weights", weights(), "--data", "synthetic", "--limit",
                   "2", "--image-size", "32", "--latency-seconds", "0.01", "--json", file("latency.json")});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("  recorded"));
  for (const json& latency : report_of(file("latency.json"))["latency"]) {
    EXPECT_GE(latency["samples"].get<int>(), 10);
    EXPECT_GE(latency["recorded"]["samples"].get<int>(), 10);
    EXPECT_GT(latency["recorded"]["median_ms"].get<double>(), 0);
  }
}

TEST_F(ProgramsOnStandIn, PredictAgreesWithTheCpu) {
  data::Image image{40, 50, {}};
  for (int i = 0; i < 40 * 50 * 3; ++i)
    image.pixels.push_back(uint8_t(128 + 100 * std::sin(0.01 * i * (i % 3 + 1))));
  write_file(file("photo.png"), data::encode_png(image));
  const Words words{file("photo.png"), "--model", "shufflenet_v2_x0_5", "--weights", weights(), "--json"};
  const ToolResult cuda = on_cuda("predict", words),
                   cpu = run_tool("predict", joined({"--device", "cpu"}, words));
  ASSERT_EQ(cuda.code, 0) << cuda.err;
  ASSERT_EQ(cpu.code, 0) << cpu.err;
  EXPECT_EQ(tools::parse_json_or_null(cuda.out)["images"][0]["predictions"][0]["class"],
            tools::parse_json_or_null(cpu.out)["images"][0]["predictions"][0]["class"]);
}

Words profiled(const std::string& mode, const Words& more = {}) {
  return joined(
      {"--model", "shufflenet_v2_x0_5", "--mode", mode, "--size", "32", "--batch", "2", "--seconds", "0.01"},
      more);
}

TEST_F(ProgramsOnStandIn, ProfileWithATracerTimesKernelsOfReplays) {
  for (const char* mode : {"inference", "training"}) {
    const ToolResult result = on_cuda("profile", profiled(mode, {"--json", file("p.json")}));
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_THAT(result.out, HasSubstr("stand-in (no GPU)"));
    EXPECT_THAT(result.out, Not(HasSubstr("no CUPTI")));
    double launches = 0;
    const json report = report_of(file("p.json"));
    for (const json& row : report["rows"]) launches += row["launches"].get<double>();
    EXPECT_GT(launches, 20) << mode;
  }
}

TEST_F(ProgramsOnStandIn, ProfileWithoutATracerRunsCallByCall) {
  // Not there at all; and a driver that keeps its counters to itself, which says so late.
  for (const char* tracer : {"0", "35"}) {
    setenv("PLUME_STAND_IN_TRACER", tracer, 1);
    const ToolResult result = on_cuda("profile", profiled("training"));
    EXPECT_EQ(result.code, 0) << tracer << " " << result.err;
    EXPECT_THAT(result.out, HasSubstr("the device is waited for around every call")) << tracer;
  }
  // Somebody else traces, a virtual machine, one that hides what it computes.
  for (const char* tracer : {"35", "39", "40", "41"}) {
    setenv("PLUME_STAND_IN_TRACER", tracer, 1);
    expect_refusal(run_tool("profile", joined({"--device", "cuda"}, profiled("training", {"--graph", "on"}))),
                   2, {"--graph on", "CUPTI error " + std::string(tracer)});
  }
  unsetenv("PLUME_STAND_IN_TRACER");
}

#if PLUME_HAVE_BENCH
TEST_F(ProgramsOnStandIn, TimeModelTimesEveryMode) {
  for (const char* mode : {"inference", "training"})
    for (const char* graph : {"on", "off"}) {
      const ToolResult result =
          on_cuda("time_model", {"--model", "shufflenet_v2_x0_5", "--mode", mode, "--graph", graph, "--size",
                                 "32", "--batch", "2", "--seconds", "0.01"});
      EXPECT_EQ(result.code, 0) << mode << graph << result.err;
    }
}

TEST_F(ProgramsOnStandIn, BenchModelsTimesEveryMode) {
  const ToolResult result =
      on_cuda("bench_models", {"--model", "shufflenet_v2_x0_5", "--workload", "training:32:2", "--workload",
                               "inference:32:1", "--dtype", "f32"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out + result.err, HasSubstr("training:32:2/f32/graph"));
  EXPECT_THAT(result.out + result.err, Not(HasSubstr("ERROR")));
}
#endif

}  // namespace
}  // namespace plume::test::programs_test
