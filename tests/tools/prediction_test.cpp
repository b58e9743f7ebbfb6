// Predicted times: descriptions of GPUs, and `profile --gpu` as a user runs it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "engine/profiler/kernel_counts.h"
#include "tests/support/test_support.h"
#include "tests/support/tool_runner.h"
#include "tools/cli/json.h"
#include "tools/profiling/gpus.h"
#include "tools/profiling/prediction.h"

namespace plume::test {
namespace {

using testing::HasSubstr;

tools::Json h100_description() { return tools::parse_json(tools::gpu_file("h100"), "h100"); }

std::string error_of_description(const tools::Json& description) {
  const TemporaryFolder folder;
  std::ofstream(folder.file("gpu.json")) << tools::to_text(description);
  try {
    tools::find_gpu(folder.file("gpu.json"));
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Gpus, AllAreThereAndSound) {
  EXPECT_EQ(tools::gpu_names(), "a100, h100, orin, rtx4090");
  for (const char* name : {"a100", "h100", "orin", "rtx4090"}) {
    const GpuDescription gpu = tools::find_gpu(name);
    EXPECT_GT(gpu.tensor_flops(), gpu.f32_flops()) << name;
    EXPECT_GT(gpu.l2_bytes_per_second, gpu.dram_bytes_per_second) << name;
    EXPECT_GT(gpu.dram_latency, gpu.l2_latency) << name;
  }
  EXPECT_NEAR(tools::find_gpu("h100").tensor_flops(), 949e12, 1e12);
}

TEST(Gpus, FilesAreReadLikeThem) {
  const TemporaryFolder folder;
  tools::Json description = h100_description();
  description["sms"] = 7;
  std::ofstream(folder.file("gpu.json")) << tools::to_text(description);
  EXPECT_EQ(tools::find_gpu(folder.file("gpu.json")).sms, 7);
}

TEST(Gpus, MistakesAreNamed) {
  tools::Json description = h100_description();
  EXPECT_EQ(error_of_description(description), "");
  description["sms"] = -1;
  EXPECT_THAT(error_of_description(description), HasSubstr("'sms' is -1, expected a number above 0"));
  description.erase("sms");
  EXPECT_THAT(error_of_description(description), HasSubstr("'sms' is missing"));
  description = h100_description();
  description["smz"] = 1;
  EXPECT_THAT(error_of_description(description), HasSubstr("there is no 'smz'"));
  EXPECT_THAT(error_of_description(tools::Json::array()), HasSubstr("expected an object with a 'name'"));
}

TEST(ProfileGpu, RefusesWhatItCannotDo) {
  const ToolResult unknown = run_tool("profile", {"--device", "simt", "--gpu", "gtx999"});
  EXPECT_NE(unknown.code, 0);
  EXPECT_THAT(unknown.err, HasSubstr("'gtx999' is neither a file nor one of a100, h100, orin, rtx4090"));
  const ToolResult cpu = run_tool("profile", {"--device", "cpu", "--gpu", "h100"});
  EXPECT_NE(cpu.code, 0);
  EXPECT_THAT(cpu.err, HasSubstr("predictions are made on --device simt"));
}

TEST(ProfileGpu, PredictsEveryRow) {
  const TemporaryFolder folder;
  const ToolResult result = run_tool("profile", {"--device",        "simt",
                                                 "--gpu",           "h100",
                                                 "--model",         "shufflenet_v2_x1_0",
                                                 "--size",          "32",
                                                 "--batch",         "2",
                                                 "--sample-blocks", "2",
                                                 "--json",          folder.file("p.json"),
                                                 "--csv",           folder.file("p.csv"),
                                                 "--trace",         folder.file("t.json"),
                                                 "--svg",           folder.file("p")});
  if (!kernel_counter(Device::simt).counts_memory()) {
    EXPECT_NE(result.code, 0);
    EXPECT_THAT(result.err, HasSubstr("configure with -DPLUME_COUNTERS=ON"));
    return;
  }
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("predicted"));
  const tools::Json report = tools::parse_json_or_null(read_file(folder.file("p.json")));
  EXPECT_EQ(report["times"], "predicted");
  EXPECT_LT(report["prediction"]["step_seconds_low"], report["step_seconds"]);
  EXPECT_GT(report["prediction"]["step_seconds_high"], report["step_seconds"]);
  double launches = 0, seconds = 0;
  for (const tools::Json& row : report["rows"]) {
    launches += row["launches"].get<double>();
    seconds += row["predicted_seconds"].get<double>();
    if (row["launches"] == 0) continue;
    EXPECT_GT(row["sectors"], 0) << row["slot"];
    EXPECT_GE(row["sectors"], row["ideal_sectors"]) << row["slot"];
    EXPECT_GE(row["wavefronts"], row["ideal_wavefronts"]) << row["slot"];
    EXPECT_LE(row["occupancy"], 1) << row["slot"];
    EXPECT_NE(row["bound"], row["second_bound"]) << row["slot"];
    EXPECT_LT(row["predicted_seconds_low"], row["predicted_seconds_high"]) << row["slot"];
  }
  EXPECT_EQ(launches, report["launches"]);
  EXPECT_GT(launches, 50);
  EXPECT_NEAR(seconds + report["outside_seconds"].get<double>(), report["step_seconds"].get<double>(), 1e-9);
  EXPECT_GT(tools::parse_json_or_null(read_file(folder.file("t.json")))["traceEvents"].size(), 100u);
  EXPECT_THAT(read_file(folder.file("p-roofline.svg")), HasSubstr("predicted"));
}

}  // namespace
}  // namespace plume::test
