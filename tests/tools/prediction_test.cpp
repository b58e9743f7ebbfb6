// Predicted times: descriptions of GPUs, and `profile --gpu` as a user runs it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "engine/profiler/kernel_counts.h"
#include "tests/support/test_support.h"
#include "tests/support/tool_runner.h"
#include "tests/tools/compiled_kernels.h"
#include "tools/cli/json.h"
#include "tools/machine_code/kernel_report.h"
#include "tools/profiling/gpus.h"
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

// A norm's launch: x read twice and y written, 100 MB each, where its operands are x and y.
TEST(DramShare, ALaunchPaysForWhatItReadsAgainTooLate) {
  const GpuDescription gpu = tools::find_gpu("h100");
  CountedLaunch launch;
  launch.blocks = launch.counted_blocks = 1;
  launch.counts.dram_read_bytes = 200e6;
  launch.counts.dram_written_bytes = 100e6;
  CallCost cost;
  cost.bytes = 200e6;
  const auto share = [&](ReuseDistance reuse) {
    launch.reuse = reuse;
    return tools::dram_share(cost, {&launch}, gpu);
  };
  EXPECT_NEAR(share({}), 2.0 / 3, 1e-9);
  EXPECT_NEAR(share({0, gpu.l2_bytes / 2}), 2.0 / 3, 1e-9);
  EXPECT_NEAR(share({gpu.l2_bytes, 2 * gpu.l2_bytes}), 1, 1e-9);
  EXPECT_NEAR(share({0, gpu.l2_bytes}), 2.0 / 3 + 0.25 / 3, 1e-9);
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
    EXPECT_THAT(result.err, HasSubstr("its target plume_counted"));
    return;
  }
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("predicted"));
  EXPECT_THAT(result.out, testing::ContainsRegex(
                              "note +[0-9]+ of [0-9]+ blocks ran; [0-9]+ of [0-9]+ launches repeat others"));
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

// A build's own library does not count; the one beside it does.
TEST(ProfileGpu, BeginsAnewWithKernelsThatCount) {
  if (!std::filesystem::exists(PLUME_BINARY_DIR "/lib/counters/libplume.so"))
    GTEST_SKIP() << "this build has kernels of one kind";
  const auto profile = [](const std::string& before) {
    return run_command("/usr/bin/env", {"-u", "LD_LIBRARY_PATH", before, PLUME_BINARY_DIR "/bin/profile",
                                        "--device", "simt", "--gpu", "h100", "--model", "squeezenet1_1",
                                        "--size", "32", "--sample-blocks", "1", "--top", "1"});
  };
  const ToolResult anew = profile("PLUME_SIMT_POISON=0");
  EXPECT_EQ(anew.code, 0) << anew.err;
  EXPECT_THAT(anew.out, HasSubstr("ms predicted"));
  EXPECT_THAT(anew.out, HasSubstr("note      instructions are "));
  const ToolResult as_it_is = profile("PLUME_COUNTED_KERNELS=1");
  EXPECT_EQ(as_it_is.code, 2);
  EXPECT_THAT(as_it_is.err, HasSubstr("does not count; what does: its target plume_counted"));
}

// build/sass is used once tools/kernel_report.sh has written all of it, and not before.
TEST(ProfileGpu, UsesMachineCodeThatIsComplete) {
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder.path() / "build/sass");
  const auto profile = [&] {
    return run_command("/usr/bin/env", {"-C", folder.path().string(), PLUME_BINARY_DIR "/bin/profile",
                                        "--device", "simt", "--gpu", "h100", "--model", "squeezenet1_1",
                                        "--size", "32", "--sample-blocks", "1", "--top", "1"});
  };
  const ToolResult before = profile();
  EXPECT_EQ(before.code, 0) << before.err;
  EXPECT_THAT(before.out, HasSubstr("note      instructions are estimated"));
  write_file(folder.file("build/sass/a.sm_90.sass"), "K 32 0 0 0 other\n0 EXIT\n");
  EXPECT_EQ(profile().out, before.out);
  write_file(folder.file("build/sass/complete"), "");
  EXPECT_THAT(profile().out, HasSubstr("instructions are counted in the machine code in build/sass"));
}

// Two variants whose kernels differ, by the rows of their slot alone.
TEST(ProfileGpu, ComparesPredictions) {
  std::vector<std::string> arguments{
      "--gpu",   "h100", "--model", "mobilenet_v3_small", "--size",   "64", "--batch", "2",
      "--dtype", "bf16", "--mode",  "training",           "--compare"};
  arguments.push_back("depthwise_conv2d.forward=direct,stream");
  const ToolResult result = run_tool("profile", arguments);
  if (!kernel_counter(Device::simt).counts_memory()) {
    EXPECT_EQ(result.code, 2);
    EXPECT_THAT(result.err, HasSubstr("its target plume_counted"));
    return;
  }
  ASSERT_EQ(result.code, 0) << result.err;
  for (const char* part : {"predicted for NVIDIA H100", "never measured", "features.1.block.0.0", "direct",
                           "stream", "bounds; ranges", "launch"})
    EXPECT_THAT(result.out, HasSubstr(part));
  // A variant that is made of other calls is given their time.
  arguments = {"--gpu",   "h100", "--model",   "squeezenet1_1",
               "--size",  "32",   "--batch",   "2",
               "--dtype", "bf16", "--compare", "fire_expand.forward=tensor_core,separate"};
  const ToolResult nested = run_tool("profile", arguments);
  ASSERT_EQ(nested.code, 0) << nested.err;
  const size_t total = nested.out.rfind("fire_expand");
  ASSERT_NE(total, std::string::npos);
  std::istringstream line(nested.out.substr(total));
  std::string slot;
  double fused = 0, separate = 0;
  line >> slot >> fused >> separate;
  EXPECT_GT(fused, 0);
  EXPECT_GT(separate, fused) << nested.out;
}

TEST(ProfileGpu, ShowsAKernelLineByLine) {
  if (!kernel_counter(Device::simt).counts_memory()) GTEST_SKIP() << "simt is built without counters";
  const TemporaryFolder folder;
  std::vector<std::string> arguments{"--model", "mobilenet_v3_small",
                                     "--size",  "64",
                                     "--batch", "2",
                                     "--dtype", "bf16",
                                     "--html",  folder.file("k.html"),
                                     "--json",  folder.file("k.json"),
                                     "--kernel"};

  arguments.push_back("depthwise_conv2d.forward/stream");
  const ToolResult result = run_tool("profile", arguments);
  ASSERT_EQ(result.code, 0) << result.err;
  for (const char* part : {"depthwise_forward_stream<", "predicted for NVIDIA H100",
                           "kernels/depthwise_stream.cu", "pair.store(to)"}) {
    EXPECT_THAT(result.out, HasSubstr(part));
  }
  EXPECT_THAT(read_file(folder.file("k.html")), HasSubstr("pair.store(to)"));
  const tools::Json call = tools::parse_json_or_null(read_file(folder.file("k.json")));
  EXPECT_EQ(call["launches"], 1);
  EXPECT_EQ(call["kernels"].size(), 1u);
  EXPECT_GT(call["sectors"], 0);
  EXPECT_GT(call["percent_of_limit"], 0);
  EXPECT_EQ(call["predicted_seconds"], call["kernels"][0]["predicted_seconds"]);
  // What is shown alone is what the whole network says of it.
  const ToolResult whole =
      run_tool("profile", {"--gpu", "h100", "--model", "mobilenet_v3_small", "--size", "64", "--batch", "2",
                           "--dtype", "bf16", "--json", folder.file("p.json")});
  ASSERT_EQ(whole.code, 0) << whole.err;
  for (const tools::Json& row : tools::parse_json_or_null(read_file(folder.file("p.json")))["rows"])
    if (row["slot"] == "depthwise_conv2d.forward" && row["operands"] == call["operands"]) {
      EXPECT_EQ(row["sectors"], call["sectors"]);
      EXPECT_EQ(row["wavefronts"], call["wavefronts"]);
      EXPECT_NEAR(row["predicted_seconds"], call["predicted_seconds"],
                  1e-3 * row["predicted_seconds"].get<double>());
    }
  // Another variant is preferred without being forced, and nested calls are shown with it.
  arguments.back() = "depthwise_conv2d.forward/rows";
  const ToolResult rows = run_tool("profile", arguments);
  ASSERT_EQ(rows.code, 0) << rows.err;
  EXPECT_THAT(rows.out, HasSubstr("kernels/depthwise_conv2d.cu"));
  arguments.back() = "expand_depthwise.forward/separate";
  const ToolResult nested = run_tool("profile", arguments);
  ASSERT_EQ(nested.code, 0) << nested.err;
  EXPECT_THAT(nested.out, HasSubstr("conv2d_"));
  EXPECT_THAT(nested.out, HasSubstr("depthwise_forward_stream<"));
  arguments.back() = "depthwise_conv2d.forward/stream";
  if (write_machine_code(folder.file("sass"), {PLUME_SOURCE_DIR "/kernels/depthwise_stream.cu"})) {
    std::vector<std::string> with_code = arguments;
    with_code.insert(with_code.begin(), {"--sass", folder.file("sass")});
    const ToolResult compiled = run_tool("profile", with_code);
    ASSERT_EQ(compiled.code, 0) << compiled.err;
    for (const char* part : {"machine code: ", " registers)", "KB an SM; most waits at kernels/"})
      EXPECT_THAT(compiled.out, HasSubstr(part));
    EXPECT_THAT(read_file(folder.file("k.html")), HasSubstr("machine code: "));
    with_code[1] = folder.file("nothing");
    const ToolResult nothing = run_tool("profile", with_code);
    EXPECT_EQ(nothing.code, 2);
    EXPECT_THAT(nothing.err, HasSubstr("--sass: no *.sm_90.sass in '" + folder.file("nothing")));
  }
  arguments.back() = "conv3d.forward";
  const ToolResult none = run_tool("profile", arguments);
  EXPECT_EQ(none.code, 2);
  EXPECT_THAT(none.err, HasSubstr("the network does not call conv3d.forward; it calls "));
}

}  // namespace
}  // namespace plume::test::prediction_test
