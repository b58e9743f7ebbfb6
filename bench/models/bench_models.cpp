// bench_models: whole networks. Inference with batch norms folded (latency at batch 1, throughput at a large
// batch) and training steps, each pass synchronised.
#include <benchmark/benchmark.h>

#include <memory>

#include "models/registry.h"
#include "tools/cli/main.h"
#include "tools/profiling/workload.h"

namespace plume::bench {
namespace {

std::vector<std::string> usual_workloads(Device device) {
  switch (device) {
    case Device::cuda:
      return {"inference:224:1", "inference:224:256", "training:32:64", "training:224:256"};
    case Device::simt:
      return {"inference:32:1", "training:32:2"};
    default:
      return {"inference:224:1", "inference:224:16", "training:32:64"};
  }
}

// mode:size:1, mode:size:2, mode:size:4 and so on.
std::vector<std::string> over_batches(const std::string& mode_and_size, int64_t most) {
  std::vector<std::string> workloads;
  for (int64_t batch = 1; batch <= most; batch *= 2)
    workloads.push_back(message("{}:{}", mode_and_size, batch));
  return workloads;
}

int failures = 0;

// The library comes again and again with more iterations: the network stays until the next benchmark's.
struct KeptRun {
  std::string label;
  std::unique_ptr<tools::ModelRun> run;
};

void time_passes(benchmark::State& state, KeptRun& kept, const std::string& label, const std::string& model,
                 const tools::Workload& workload, DType dtype, Device device, bool graph) {
  try {
    if (kept.label != label) {
      kept = {};
      kept.run = std::make_unique<tools::ModelRun>(model, workload, dtype, device,
                                                   tools::ModelRun::Options{.graph = graph});
      constexpr int kWarmUp = 4;
      for (int i = 0; i < kWarmUp; ++i) kept.run->pass();
      kept.label = label;
    }
    tools::ModelRun& run = *kept.run;
    run.synchronize();
    for ([[maybe_unused]] auto _ : state) {
      run.pass();
      run.synchronize();
    }
    run.check();
    state.SetItemsProcessed(state.iterations() * workload.batch);  // images
  } catch (const std::exception& error) {
    ++failures;
    state.SkipWithError(error.what());
  }
}

int run(tools::Flags& flags) {
  tools::DeviceFlags device_flags(flags);
  std::vector<std::string> workloads, sweeps, models, dtype_names;
  int64_t most_batch = 0;
  flags.list("--workload", workloads, "mode:size:batch, e.g. training:32:64; may be repeated");
  flags.list("--sweep", sweeps,
             "mode:size over batches of 1, 2, 4, ... images, e.g. inference:224; may be repeated");
  flags.whole("--most", most_batch, 0, 65536, "the sweep's largest batch (0: 32, on cuda 512)");
  flags.list("--model", models, "network (default: all); may be repeated");
  flags.list("--dtype", dtype_names, "f32, bf16 or f16 (default: f32, on cuda also bf16); may be repeated");
  flags.parse();
  const Device device = device_flags.open();
  if (models.empty()) models = model_names();
  if (most_batch == 0) most_batch = device == Device::cuda ? 512 : 32;
  for (const std::string& sweep : sweeps)
    for (const std::string& workload : over_batches(sweep, most_batch)) workloads.push_back(workload);
  if (workloads.empty()) workloads = usual_workloads(device);
  if (dtype_names.empty())
    dtype_names =
        device == Device::cuda ? std::vector<std::string>{"f32", "bf16"} : std::vector<std::string>{"f32"};

  benchmark::AddCustomContext("device", backend(device).describe());
  KeptRun kept;
  for (const std::string& model : models)
    for (const std::string& text : workloads)
      for (const DType dtype : tools::parse_dtypes(dtype_names))
        for (const bool graph : {false, true}) {
          if (graph && is_host(device)) continue;  // nothing is recorded there
          const tools::Workload workload = tools::parse_workload(text);
          const std::string label =
              message("{}/{}/{}{}", model, to_string(workload), dtype, graph ? "/graph" : "");
          benchmark::RegisterBenchmark(label.c_str(),
                                       [=, &kept](benchmark::State& state) {
                                         time_passes(state, kept, label, model, workload, dtype, device,
                                                     graph);
                                       })
              ->UseRealTime()
              ->Unit(benchmark::kMillisecond);
        }
  benchmark::RunSpecifiedBenchmarks();
  if (failures) fail(ErrorKind::numeric, "{} benchmarks failed", failures);
  return 0;
}

}  // namespace
}  // namespace plume::bench

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);  // takes its own flags out
  return plume::tools::run_tool(argc, argv, "Times whole networks.", plume::bench::run);
}
