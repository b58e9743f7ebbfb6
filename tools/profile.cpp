// profile: where the time of an inference or a training step goes, layer by layer, against what the machine
// can do at most; or which kernel variants there are.
#include <cstdio>
#include <filesystem>

#include "engine/files/atomic_file.h"
#include "engine/ops/batch_norm_conv.h"
#include "engine/ops/batch_norm_excitation.h"
#include "engine/ops/batch_norm_max_pool.h"
#include "engine/ops/conv_batch_norm.h"
#include "engine/ops/first_layer.h"
#include "engine/profiler/device_tracer.h"
#include "engine/profiler/trace.h"
#include "models/registry.h"
#include "tools/cli/json.h"
#include "tools/cli/main.h"
#include "tools/profiling/counted_kernels.h"
#include "tools/profiling/gpus.h"
#include "tools/profiling/kernel_source.h"
#include "tools/profiling/plots.h"
#include "tools/profiling/prediction.h"
#include "tools/profiling/profile.h"
#include "tools/profiling/records.h"
#include "tools/profiling/text.h"

namespace {

using namespace plume;

void list_variants() {
  for (KernelSlotBase* slot : all_slots()) {
    std::printf("%s\n", slot->name());
    for (int d = 0; d < kDeviceCount; ++d) {
      const Device device = Device(d);
      if (slot->variant_count(device) == 0) continue;
      std::printf("  %-5s", name(device));
      const char* forced = slot->forced(device);
      for (int i = 0; i < slot->variant_count(device); ++i) {
        const std::string variant = slot->variant_name(device, i);
        const bool first = forced ? variant == forced : i == 0;
        std::printf(" %s%s", variant.c_str(), first ? "*" : "");
      }
      std::printf("\n");
    }
  }
  std::printf("* is tried first; the others follow in order for arguments it does not take.\n");
}

// Has this variant ("slot/variant") called by the network wherever it fits: what is made of several other
// calls is taken apart, unless it is asked for itself.
void call_kernel(Device device, const std::string& kernel) {
  const size_t slash = kernel.find('/');
  const std::string asked = kernel.substr(0, slash);
  for (KernelSlotBase* slot : all_slots())
    for (int i = 0; slot->name() != asked && i < slot->variant_count(device); ++i)
      if (slot->variant_name(device, i) == std::string_view("separate")) slot->prefer(device, "separate");
  if (slash != std::string::npos) find_slot(asked).prefer(device, kernel.substr(slash + 1));
}

// "conv2d.forward=winograd,onednn"
struct Comparison {
  KernelSlotBase* slot = nullptr;
  std::string variants[2];
};

Comparison parse_comparison(const std::string& text, Device device) {
  Comparison comparison;
  const size_t equals = text.find('='), comma = text.find(',', equals);
  PLUME_CHECK(comma != std::string::npos && text.find(',', comma + 1) == std::string::npos,
              "--compare: '{}' is not slot=variant,variant", text);
  comparison.slot = &find_slot(text.substr(0, equals));
  comparison.variants[0] = text.substr(equals + 1, comma - equals - 1);
  comparison.variants[1] = text.substr(comma + 1);
  for (const std::string& variant : comparison.variants) {
    PLUME_CHECK(!variant.empty(), "--compare: '{}' is not slot=variant,variant", text);
    comparison.slot->prefer(device, variant);  // throws when there is none
  }
  comparison.slot->prefer(device, "");
  return comparison;
}

struct Outputs {
  std::string json, csv, trace, svg;
  bool any() const { return !json.empty() || !csv.empty() || !trace.empty() || !svg.empty(); }
};

void write(const std::string& path, const std::string& content) {
  write_file_atomically(path, content);
  tools::log_line(message("wrote {}", path));
}

void write_all(const tools::ProfileReport& report, const Profiler& profiler, const tools::Ceilings& ceilings,
               const Outputs& out) {
  if (!out.json.empty()) write(out.json, tools::to_text(to_json(report, ceilings), 2) + "\n");
  if (!out.csv.empty()) write(out.csv, to_csv(report, ceilings));
  constexpr size_t kTracedPasses = 3;
  const tools::ProfileRequest& request = report.request;
  if (!out.trace.empty())
    write(out.trace, chrome_trace(profiler, kTracedPasses, name(request.device), describe(request)));
  if (!out.svg.empty()) {
    write(out.svg + "-layers.svg", tools::layers_svg(report, ceilings));
    write(out.svg + "-roofline.svg", tools::roofline_svg(report, ceilings));
  }
}

void profile_one(const tools::ProfileRequest& request, const Outputs& out, size_t most) {
  const tools::Ceilings ceilings = tools::measure_ceilings(request.device);
  if (!out.svg.empty()) tools::check_roofline(request, ceilings);
  tools::print_ceilings(ceilings, backend(request.device).describe(), request.device);
  std::fflush(stdout);
  tools::ProfileRun run(request);
  tools::measure_in_turns({&run}, request.seconds);
  const tools::ProfileReport report = run.report();
  tools::print_report(report, ceilings, most);
  std::fflush(stdout);
  write_all(report, run.profiler(), ceilings, out);
}

void predict_one(const tools::ProfileRequest& request, const std::string& gpu_name,
                 const tools::CountRequest& how, const Outputs& out, size_t most) {
  const GpuDescription gpu = tools::find_gpu(gpu_name);
  const tools::Ceilings ceilings = tools::ceilings_of(gpu);
  const tools::PredictedProfile predicted = tools::predict_profile(request, gpu, how);
  tools::print_ceilings(ceilings, predicted.report.machine, Device::cuda);
  tools::print_report(predicted.report, ceilings, most);
  std::fflush(stdout);
  write_all(predicted.report, *predicted.profiler, ceilings, out);
}

void show_kernel(const tools::ProfileRequest& request, const std::string& gpu_name, tools::CountRequest how,
                 const tools::KernelChoice& choice, const std::string& page, const std::string& json) {
  const GpuDescription gpu = tools::find_gpu(gpu_name);
  const int64_t batch = request.workload.batch;
  how.places = true;
  how.choose = [&](const std::vector<ProfileCall>& calls) { return tools::find_call(calls, choice, batch); };
  const tools::CountedPass pass = tools::count_pass(request, gpu, how);
  const size_t call = how.choose(pass.profiler->calls());
  std::printf("%s", tools::kernel_text(pass, call, gpu, batch).c_str());
  std::fflush(stdout);
  if (!page.empty()) write(page, tools::kernel_page(pass, call, gpu, batch));
  if (!json.empty()) write(json, tools::to_text(tools::to_json(pass, call, request, gpu), 2) + "\n");
}

void compare(const tools::ProfileRequest& request, const Comparison& comparison) {
  tools::ProfileRun a(request, {comparison.slot, comparison.variants[0]});
  tools::ProfileRun b(request, {comparison.slot, comparison.variants[1]});
  tools::measure_in_turns({&a, &b}, request.seconds);
  comparison.slot->prefer(request.device, "");
  tools::print_comparison(a.report(), b.report(), comparison.slot->name());
}

void compare_predictions(const tools::ProfileRequest& request, const std::string& gpu_name,
                         const tools::CountRequest& how, const Comparison& comparison) {
  const GpuDescription gpu = tools::find_gpu(gpu_name);
  tools::ProfileReport reports[2];
  for (int i = 0; i < 2; ++i) {
    comparison.slot->prefer(request.device, comparison.variants[i]);
    reports[i] = tools::predict_profile(request, gpu, how).report;
  }
  comparison.slot->prefer(request.device, "");
  tools::print_comparison(reports[0], reports[1], comparison.slot->name());
}

int run(tools::Flags& flags) {
  tools::ProfileRequest request;
  Outputs out;
  std::string mode = "inference", dtype = "f32", graph = "auto", stem = "imagenet", comparison, gpu, page;
  tools::KernelChoice kernel;
  int64_t size = 224, batch = 1, classes = 0, most = 15, blocks = 8;
  tools::CountRequest how;
  bool list = false, all = false, unfused = false;
  flags.on("--list-variants", list, "list every kernel slot with its variants per device, and stop");
  flags.choice("--model", request.model, model_names(), "network");
  flags.choice("--mode", mode, {"inference", "training"}, "a forward pass, or an SGD step");
  flags.whole("--size", size, 32, 4096, "image height and width");
  flags.whole("--batch", batch, 1, 65536, "images per pass");
  flags.choice("--dtype", dtype, {"f32", "bf16", "f16"}, "dtype of activations");
  flags.choice("--stem", stem, {"imagenet", "cifar"}, "first layers");
  flags.whole("--classes", classes, 1, 1'000'000,
              "of the last layer (default: 10 up to 64x64 images, else 1000)");
  flags.on("--unfused", unfused,
           "batch norms beside convolutions: not folded, or in training not computed with them");
  flags.choice("--graph", graph, {"auto", "on", "off"},
               "record the pass once and replay it (auto: on cuda where CUPTI times kernels)");
  flags.number("--seconds", request.seconds, 0.01, 3600, "how long to measure, after a second of warm-up");
  flags.whole("--top", most, 1, 100000, "how many of the slowest calls to print");
  flags.on("--all", all, "print every call, in order of execution");
  flags.text("--compare", comparison, "slot=a,b: time the network with either variant wherever it fits");
  flags.text("--json", out.json, "write everything to this file");
  flags.text("--csv", out.csv, "write a line per call to this file");
  flags.text("--trace", out.trace, "write the last three passes for ui.perfetto.dev to this file");
  flags.text("--svg", out.svg, "write pictures: PREFIX-roofline.svg and PREFIX-layers.svg");
  flags.text(
      "--gpu", gpu,
      message("predict the times on this GPU from the kernels on simt ({}, or a file)", tools::gpu_names()));
  flags.whole("--sample-blocks", blocks, 1, 1'000'000, "with --gpu: blocks to run of each launch");
  flags.text(
      "--kernel", kernel.kernel,
      "one call in depth, predicted, line by line, e.g. relu.forward/packs (a variant goes before others)");
  flags.text("--shape", kernel.shape,
             "with --kernel: part of its shapes as tables show them, e.g. '14x14x96>'");
  flags.text("--html", page, "with --kernel: write the same as a page to this file");
  flags.text("--registers", how.kernel_report,
             "with --gpu: the table of tools/kernel_report.sh, for the occupancy of each kernel");
  flags.text(
      "--sass", how.machine_code,
      "with --gpu: the folder of tools/kernel_report.sh --sass (default: build/sass, where it is there)");
  flags.text("--arch", how.arch, "architecture in that table and folder");
  tools::DeviceFlags device(flags);
  flags.parse();
  PLUME_CHECK(comparison.empty() || !out.any(), "--compare prints only: no --json, --csv, --trace or --svg");
  PLUME_CHECK(!all || !flags.given("--top"), "--all and --top exclude each other");

  if (!kernel.kernel.empty() && gpu.empty()) gpu = "h100";
  request.device = device.open(gpu.empty() ? "" : "simt");
  if (unfused && mode == "training") {
    conv_batch_norm_forward.force(request.device, "separate");
    batch_norm_conv_forward.force(request.device, "separate");
    batch_norm_max_pool_forward.force(request.device, "separate");
    batch_norm_pool_forward.force(request.device, "separate");
    first_layer_backward.force(request.device, "separate");
  }
  PLUME_CHECK(gpu.empty() || request.device == Device::simt, "--gpu: predictions are made on --device simt");
  PLUME_CHECK(kernel.kernel.empty() || comparison.empty(), "--kernel and --compare exclude each other");
  PLUME_CHECK(gpu.empty() || graph != "on", "--gpu and --graph on exclude each other: calls are predicted");
  for (const char* flag : {"--shape", "--html"})
    PLUME_CHECK(!kernel.kernel.empty() || !flags.given(flag), "{} goes with --kernel", flag);
  PLUME_CHECK(kernel.kernel.empty() || (out.csv.empty() && out.trace.empty() && out.svg.empty()),
              "--kernel writes --html and --json alone");
  for (const char* flag : {"--sample-blocks", "--registers", "--sass", "--arch"})
    PLUME_CHECK(!gpu.empty() || !flags.given(flag), "{} goes with --gpu", flag);
  if (!gpu.empty()) tools::restart_with_counted_kernels();
  if (list) {
    list_variants();
    return 0;
  }
  request.workload = {.training = mode == "training", .size = int(size), .batch = batch};
  request.dtype = tools::parse_dtypes({dtype}).front();
  const bool timed = is_host(request.device) || device_tracer(request.device).times_kernels();
  PLUME_CHECK(graph != "on" || timed,
              "--graph on: the kernels of a recorded pass are timed by CUPTI, and there is none: {}",
              device_tracer(request.device).missing);
  request.options = {.graph = graph == "on" || (graph == "auto" && !is_host(request.device) && timed),
                     .fuse = !unfused,
                     .classes = int(classes),
                     .stem = parse_stem(stem)};
  if (!gpu.empty()) {
    how.blocks = uint64_t(blocks);
    constexpr const char* kMachineCode = "build/sass";  // not while it is being written
    if (!flags.given("--sass") && std::filesystem::exists(kMachineCode + std::string("/complete")))
      how.machine_code = kMachineCode;
    request.options.graph = false;  // host devices record nothing
    if (!kernel.kernel.empty()) {
      call_kernel(request.device, kernel.kernel);
      show_kernel(request, gpu, how, kernel, page, out.json);
    } else if (!comparison.empty())
      compare_predictions(request, gpu, how, parse_comparison(comparison, request.device));
    else
      predict_one(request, gpu, how, out, all ? 0 : size_t(most));
  } else if (comparison.empty())
    profile_one(request, out, all ? 0 : size_t(most));
  else
    compare(request, parse_comparison(comparison, request.device));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return plume::tools::run_tool(
      argc, argv, "Shows where the time of a network goes, layer by layer, and which kernels there are.",
      run);
}
