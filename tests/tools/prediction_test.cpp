// Predicted times: descriptions of GPUs, and `profile --gpu` as a user runs it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "engine/profiler/kernel_counts.h"
#include "tests/support/test_support.h"
#include "tests/support/tool_runner.h"
#include "tools/cli/json.h"
#include "tools/profiling/gpus.h"
#include "tools/profiling/kernel_report.h"
#include "tools/profiling/prediction.h"
#include "tools/profiling/text.h"

namespace plume::test::prediction_test {
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

TEST(KernelReport, NamesAreThoseOfTheTable) {
  EXPECT_EQ(tools::short_kernel_name("plume::simt_kernels::{anonymous}::rows<plume::bf16, 8, 3, 1>"),
            "rows<bf16, 8, 3, 1>");
  EXPECT_EQ(tools::short_kernel_name("plume::simt_kernels::sum_slices<float>"), "sum_slices<float>");
  EXPECT_EQ(
      tools::short_kernel_name("plume::simt_kernels::(anonymous namespace)::blocks<plume::f16, true, false>"),
      tools::short_kernel_name("blocks<f16, 1, (bool)0>"));
}

TEST(KernelReport, FillsInRegisters) {
  const TemporaryFolder folder;
  std::ofstream(folder.file("report.txt"))
      << "kernel                   | arch | registers | shared | stack | spill stores/loads\n"
         "rows<bf16, 8, 3, 1>      |   80 |        90 |      0 |     0 | 0/0\n"
         "rows<bf16, 8, 3, 1>      |   90 |        95 |      0 |     0 | 16/8\n"
         "2 kernels, 1 with spills\n";
  const auto report = tools::read_kernel_report(folder.file("report.txt"), "90");
  ASSERT_EQ(report.size(), 1u);
  EXPECT_EQ(report.at("rows<bf16, 8, 3, 1>").registers, 95);
  EXPECT_EQ(report.at("rows<bf16, 8, 3, 1>").spilled_bytes, 24);
  std::vector<CountedLaunch> launches(2);
  launches[0].kernel = "plume::simt_kernels::{anonymous}::rows<plume::bf16, 8, 3, 1>";
  launches[1].kernel = "plume::simt_kernels::other";
  EXPECT_EQ(tools::set_registers(launches, report), 1u);
  EXPECT_EQ(launches[0].registers, 95);
  EXPECT_THROW(tools::read_kernel_report(folder.file("report.txt"), "75"), Error);
  std::ofstream(folder.file("other.txt")) << "something else\n";
  EXPECT_THROW(tools::read_kernel_report(folder.file("other.txt"), "90"), Error);
  std::ofstream(folder.file("other.txt")) << std::string(1 << 20, 'x');  // one line, as of a minified file
  EXPECT_THROW(tools::read_kernel_report(folder.file("other.txt"), "90"), Error);
}

TEST(ProfileGpu, RefusesWhatItCannotDo) {
  const ToolResult unknown = run_tool("profile", {"--device", "simt", "--gpu", "gtx999"});
  EXPECT_NE(unknown.code, 0);
  EXPECT_THAT(unknown.err, HasSubstr("'gtx999' is neither a file nor one of a100, h100, orin, rtx4090"));
  const ToolResult cpu = run_tool("profile", {"--device", "cpu", "--gpu", "h100"});
  EXPECT_NE(cpu.code, 0);
  EXPECT_THAT(cpu.err, HasSubstr("predictions are made on --device simt"));
  expect_refusal(run_tool("profile", {"--device", "simt", "--gpu", "h100", "--graph", "on"}), 2,
                 {"--gpu and --graph on exclude each other"});
}

TEST(ProfileGpu, SaysOfHowManyLaunchesTheRegistersAreNotKnown) {
  tools::ProfileReport report;
  report.profile.step_seconds = 1e-3;
  report.predictions.resize(1);
  const auto said = [&](size_t unknown) {
    report.unknown_registers = unknown;
    testing::internal::CaptureStdout();
    tools::print_report(report, {}, 0);
    return testing::internal::GetCapturedStdout();
  };
  EXPECT_THAT(said(3), HasSubstr("the registers of 3 launches are not known (--registers)"));
  EXPECT_THAT(said(0), testing::Not(HasSubstr("registers")));
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
    EXPECT_THAT(result.err, HasSubstr("cmake --preset counters"));
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
  double of_kernels = 0, sectors_of_kernels = 0, sectors_of_rows = 0;
  for (const tools::Json& kernel : report["kernels"]) {
    of_kernels += kernel["launches"].get<double>();
    sectors_of_kernels += kernel["sectors"].get<double>();
    EXPECT_EQ(kernel["grid"].size(), 3u) << kernel["kernel"];
  }
  for (const tools::Json& row : report["rows"]) sectors_of_rows += row["sectors"].get<double>();
  EXPECT_EQ(of_kernels, report["launches"]);
  EXPECT_NEAR(sectors_of_kernels, sectors_of_rows, 1e-6 * sectors_of_rows);
  EXPECT_GT(launches, 50);
  EXPECT_NEAR(seconds + report["outside_seconds"].get<double>(), report["step_seconds"].get<double>(), 1e-9);
  EXPECT_GT(tools::parse_json_or_null(read_file(folder.file("t.json")))["traceEvents"].size(), 100u);
  EXPECT_THAT(read_file(folder.file("p-roofline.svg")), HasSubstr("predicted"));
}

tools::ProfileRequest small_network(bool training) {
  tools::ProfileRequest request;
  request.device = Device::simt;
  request.dtype = DType::bf16;
  request.workload = {.training = training, .size = 64, .batch = 8};
  return request;
}

// A sample of the blocks against all of them, on kernels of every kind.
TEST(ProfileGpu, ASampleAgreesWithTheWhole) {
  if (!kernel_counter(Device::simt).counts_memory()) GTEST_SKIP() << "simt is built without counters";
  const tools::ProfileRequest request = small_network(true);
  const GpuDescription gpu = tools::find_gpu("h100");
  const tools::ProfileReport all = tools::predict_profile(request, gpu, {.blocks = 0}).report;
  const tools::ProfileReport some = tools::predict_profile(request, gpu, {.blocks = 8}).report;
  EXPECT_NEAR(some.profile.step_seconds, all.profile.step_seconds, 0.05 * all.profile.step_seconds);
  ASSERT_EQ(some.predictions.size(), all.predictions.size());
  KernelCounts sum_of_all, sum_of_some;
  for (const tools::RowPrediction& row : all.predictions) sum_of_all += row.counts;
  for (const tools::RowPrediction& row : some.predictions) sum_of_some += row.counts;
  EXPECT_NEAR(sum_of_some.sectors, sum_of_all.sectors, 0.05 * sum_of_all.sectors);
  EXPECT_NEAR(sum_of_some.wavefronts, sum_of_all.wavefronts, 0.05 * sum_of_all.wavefronts);
  EXPECT_NEAR(sum_of_some.mma, sum_of_all.mma, 0.05 * sum_of_all.mma);
  EXPECT_NEAR(sum_of_some.barriers, sum_of_all.barriers, 0.05 * sum_of_all.barriers);
}

// Counts are the same whatever the memory held before.
TEST(ProfileGpu, CountsRepeat) {
  if (!kernel_counter(Device::simt).counts_memory()) GTEST_SKIP() << "simt is built without counters";
  const tools::ProfileRequest request = small_network(false);
  std::vector<KernelCounts> sums;
  for (const float before : {-1.0f, 3e38f}) {
    std::vector<Tensor> dirt;
    for (int64_t elements = 64; elements < (1 << 22); elements += elements / 4)
      for (int i = 0; i < 4; ++i)
        dirt.push_back(Tensor::from(std::vector<float>(size_t(elements), before), {elements}, Device::simt));
    dirt.clear();
    KernelCounts sum;
    for (const CountedLaunch& launch :
         tools::count_pass(request, tools::find_gpu("h100"), {.blocks = 2}).launches)
      sum += launch.counts;
    sums.push_back(sum);
  }
  EXPECT_EQ(sums[0].sectors, sums[1].sectors);
  EXPECT_EQ(sums[0].ideal_sectors, sums[1].ideal_sectors);
  EXPECT_EQ(sums[0].wavefronts, sums[1].wavefronts);
  EXPECT_EQ(sums[0].steps, sums[1].steps);
}

TEST(ProfileGpu, ShowsAKernelLineByLine) {
  if (!kernel_counter(Device::simt).counts_memory()) GTEST_SKIP() << "simt is built without counters";
  const TemporaryFolder folder;
  const std::vector<std::string> network{
      "--device", "simt", "--gpu",   "h100", "--model", "mobilenet_v3_small",  "--size",  "64",
      "--batch",  "2",    "--dtype", "bf16", "--html",  folder.file("k.html"), "--kernel"};
  auto arguments = network;
  arguments.push_back("depthwise_conv2d.forward/stream");
  const ToolResult result = run_tool("profile", arguments);
  ASSERT_EQ(result.code, 0) << result.err;
  for (const char* part : {"depthwise_forward_stream<", "predicted for NVIDIA H100",
                           "kernels/depthwise_stream.cu", "result.store(y + at)"}) {
    EXPECT_THAT(result.out, HasSubstr(part));
  }
  EXPECT_THAT(read_file(folder.file("k.html")), HasSubstr("result.store(y + at)"));
  arguments.back() = "conv3d.forward";
  const ToolResult none = run_tool("profile", arguments);
  EXPECT_EQ(none.code, 2);
  EXPECT_THAT(none.err, HasSubstr("the network does not call conv3d.forward; it calls "));
}

}  // namespace
}  // namespace plume::test::prediction_test
