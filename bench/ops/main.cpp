// bench_ops: every slot x fitting variant x dtype over the shapes that the networks really give it.
//
// The networks of the registry are walked once per workload and dtype with recorders in the slots (see
// support/slot_bench.h). Then each distinct call is timed for each variant, with arguments that rotate
// through more memory than the cache holds, and the result is compared with another variant's.
#include <benchmark/benchmark.h>

#include <chrono>

#include "bench/support/slot_bench.h"
#include "engine/core/graph.h"
#include "models/registry.h"
#include "tools/cli/main.h"
#include "tools/profiling/ceilings.h"
#include "tools/profiling/workload.h"

namespace plume::bench {
namespace {

struct Options {
  Device device = Device::cpu;
  std::vector<tools::Workload> workloads;
  std::vector<std::string> models;
  std::vector<DType> dtypes;
  bool ceilings = true, graph = true;
};

// What a user of the device does: a GPU is fed large batches, the emulator cannot run them.
std::vector<std::string> usual_workloads(Device device) {
  switch (device) {
    case Device::cuda:
      return {"training:224:256", "inference:224:256"};
    case Device::simt:
      return {"training:32:2"};
    default:
      return {"training:32:64", "inference:224:1", "inference:224:16"};
  }
}

DType dtype_of_case(const OpCase& c) {
  const std::string name = c.name();
  for (const DType dtype : {DType::bf16, DType::f16})
    if (name.find(std::string(plume::name(dtype)) + "[") != std::string::npos) return dtype;
  return DType::f32;
}

void record_networks(const Options& options) {
  for (const std::string& model : options.models)
    for (const tools::Workload& workload : options.workloads)
      for (const DType dtype : options.dtypes) {
        tools::ModelRun run(model, workload, dtype, options.device, {});
        const Recording recording;
        run.pass();
        run.synchronize();
      }
}

void record(const Options& options) {
  for (OpBench* bench : op_benches()) bench->attach_recorder(options.device);
  // A recorded call runs nothing, so that those within it are not seen: the networks run once without those
  // that join others, and once with them.
  for (const char* variant : {"=separate", "="}) {
    for (const char* slot :
         {"batch_norm_conv.forward", "batch_norm_conv.backward", "batch_norm_max_pool.forward",
          "batch_norm_pool.forward", "conv_batch_norm.forward", "conv2d.backward", "first_layer.backward",
          "pooled_linear.forward", "conv2d_max_pool.forward"})
      force_variants(std::string(slot) + variant);
    record_networks(options);
  }
  // Norms that the convolution before does not take are left for what follows.
  force_variants("conv_batch_norm.forward=separate");
  record_networks(options);
  force_variants("conv_batch_norm.forward=");
  for (OpBench* bench : op_benches()) bench->derive(options.device);
  for (const KernelSlotBase* slot : all_slots()) {
    bool known = false;
    for (const OpBench* bench : op_benches()) known = known || &bench->slot() == slot;
    if (!known) tools::log_line(message("{} has no benchmark in bench/ops", slot->name()));
  }
}

// The prepared arguments of the case at hand: Google Benchmark enters a benchmark several times to find out
// how often it must run.
class Stage {
 public:
  void enter(OpCase& c, Device device) {
    if (current_ == &c) return;
    leave();
    c.prepare(tools::rotation_bytes(device));
    current_ = &c;
    verified_ = false;
  }
  void leave() {
    graph_.clear();
    if (current_) current_->release();
    current_ = nullptr;
  }
  // On a GPU calls are recorded and replayed together, so that kernels are timed and not their launches.
  // Returns the number of calls in one replay; 1 where a call cannot be recorded.
  size_t calls_per_turn(const Options& options) {
    constexpr size_t kCalls = 32;
    if (is_host(options.device) || !options.graph) return 1;
    if (graph_.captured()) return kCalls;
    try {
      OpCase* c = current_;
      graph_.capture(context(options.device), [c] {
        for (size_t i = 0; i < kCalls; ++i) c->run(i);
      });
      return kCalls;
    } catch (const Error&) {
      return 1;
    }
  }
  void turn(size_t i) {
    if (graph_.captured())
      graph_.replay();
    else
      current_->run(i);
  }
  const std::string& verify() {
    if (!verified_) verified_with_ = current_->verify();
    verified_ = true;
    return verified_with_;
  }

 private:
  OpCase* current_ = nullptr;
  StepGraph graph_;
  bool verified_ = false;
  std::string verified_with_;
};

int failures = 0;

void time_case(benchmark::State& state, OpCase& c, Stage& stage, const Options& options,
               const tools::Ceilings& ceilings) {
  try {
    const Context& ctx = context(options.device);
    stage.enter(c, options.device);
    const size_t calls = stage.calls_per_turn(options);
    size_t turn = 0;
    const auto start = std::chrono::steady_clock::now();
    // A GPU works behind the host's back: wait once per batch of turns.
    const int64_t batch = is_host(options.device) ? 1 : 16;
    while (state.KeepRunningBatch(batch * int64_t(calls))) {
      for (int64_t i = 0; i < batch; ++i) stage.turn(turn++);
      ctx.synchronize();
    }
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
    const double seconds = spent.count() / double(state.iterations());
    const CallCost cost = c.cost();
    const double flops = 2 * cost.macs;
    state.counters["bytes"] = cost.bytes;
    state.counters["GB/s"] = cost.bytes / seconds * 1e-9;
    if (flops > 0) state.counters["GFLOP/s"] = flops / seconds * 1e-9;
    const double least = ceilings.least_seconds(cost.bytes, flops, dtype_of_case(c));
    if (least > 0) state.counters["%limit"] = 100 * least / seconds;
    state.counters["sets"] = double(c.sets());
    const std::string& with = stage.verify();
    state.SetLabel(with.empty() ? "only variant" : "= " + with);
  } catch (const std::exception& error) {
    ++failures;
    stage.leave();
    state.SkipWithError(error.what());
  }
}

Options parse(tools::Flags& flags) {
  Options options;
  tools::DeviceFlags device(flags);
  std::vector<std::string> workloads, dtypes;
  bool no_ceilings = false, no_graph = false;
  flags.list("--workload", workloads, "mode:size:batch whose shapes are timed; may be repeated");
  flags.list("--model", options.models, "network whose shapes are timed (default: all); may be repeated");
  flags.list("--dtype", dtypes, "f32, bf16 or f16 (default: all); may be repeated");
  flags.on("--no-ceilings", no_ceilings, "do not measure what the machine can do at most");
  flags.on("--no-graph", no_graph, "cuda: launch each call instead of replaying recorded ones");
  flags.parse();
  options.device = device.open();
  options.ceilings = !no_ceilings;
  options.graph = !no_graph;
  if (options.models.empty()) options.models = model_names();
  for (const std::string& text : workloads.empty() ? usual_workloads(options.device) : workloads)
    options.workloads.push_back(tools::parse_workload(text));
  options.dtypes = tools::parse_dtypes(dtypes);
  return options;
}

int run(tools::Flags& flags) {
  const Options options = parse(flags);
  tools::Ceilings ceilings;
  if (options.ceilings) ceilings = tools::measure_ceilings(options.device);
  benchmark::AddCustomContext("device", backend(options.device).describe());
  if (ceilings.copy_bytes_per_second > 0)
    benchmark::AddCustomContext("copy GB/s", message("{}", int64_t(ceilings.copy_bytes_per_second * 1e-9)));
  for (const auto& [dtype, speed] : ceilings.flops_per_second)
    benchmark::AddCustomContext(message("peak GFLOP/s {}", dtype), message("{}", int64_t(speed * 1e-9)));

  record(options);
  Stage stage;
  std::vector<std::unique_ptr<OpCase>> cases;
  for (const OpBench* bench : op_benches())
    for (std::unique_ptr<OpCase>& c : bench->cases(options.device)) cases.push_back(std::move(c));
  for (const std::unique_ptr<OpCase>& c : cases)
    benchmark::RegisterBenchmark(c->name().c_str(),
                                 [&stage, &options, &ceilings, one = c.get()](benchmark::State& state) {
                                   time_case(state, *one, stage, options, ceilings);
                                 })
        ->UseRealTime()
        ->Unit(benchmark::kMicrosecond);
  benchmark::RunSpecifiedBenchmarks();
  stage.leave();
  if (failures) fail(ErrorKind::numeric, "{} benchmarks failed", failures);
  return 0;
}

}  // namespace
}  // namespace plume::bench

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);  // takes its own flags out
  return plume::tools::run_tool(argc, argv, "Times every kernel variant over the networks' shapes.",
                                plume::bench::run);
}
