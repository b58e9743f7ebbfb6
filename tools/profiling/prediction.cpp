#include "tools/profiling/prediction.h"

#include <fmt/core.h>

#include <algorithm>
#include <tuple>

#include "engine/core/error.h"
#include "engine/memory/zeroed_blocks.h"
#include "tools/machine_code/code_counts.h"
#include "tools/machine_code/kernel_report.h"
#include "tools/profiling/sampling.h"

namespace plume::tools {
namespace {

// The caches behind the counters. Half of what an SM has is left to the L1 beside shared memory; of the L2 a
// fifth is lost to what is written, and to sets that are full while others are not.
CountOptions count_options(const GpuDescription& gpu, uint64_t blocks, bool places) {
  CountOptions options;
  options.blocks_per_launch = blocks;
  options.cold_launches = true;  // blocks that were not run have left nothing in the L2
  options.places = places;
  options.l1.bytes = uint64_t(gpu.l1_bytes / 2);
  options.l2.bytes = uint64_t(gpu.l2_bytes * 0.8);
  return options;
}

// Says what the instructions were counted in.
std::string count_instructions(std::vector<CountedLaunch>& launches, MachineCode* code,
                               const CountRequest& how) {
  if (!code)
    return "instructions are estimated from the host's code, up to five times off; tools/kernel_report.sh "
           "--sass "
           "build/sass has those of the compiled kernels";
  const CodeCoverage coverage = count_code(launches, *code);
  std::string text =
      fmt::format("instructions are counted in the machine code in {} (sm_{}), for {} of {} launches",
                  how.machine_code, how.arch, launches.size() - coverage.unknown, launches.size());
  if (coverage.older > 0)
    text += fmt::format("; for {} it is older than its source: run tools/kernel_report.sh --sass {} again",
                        coverage.older, how.machine_code);
  return text;
}

// One call after the other, its own kernels before those of the calls nested in it.
size_t lay_out(const std::vector<ProfileCall>& calls, size_t i, MeasuredPass& pass) {
  const size_t first = i;
  pass.calls[first].begin = pass.seconds;
  pass.seconds += pass.self_seconds[first];
  for (++i; i < calls.size() && calls[i].depth > calls[first].depth;) i = lay_out(calls, i, pass);
  pass.calls[first].end = pass.seconds;
  return i;
}

}  // namespace

double dram_share(const CallCost& cost, const std::vector<const CountedLaunch*>& launches,
                  const GpuDescription& gpu) {
  double counted = 0, moved = 0, again = 0;
  for (const CountedLaunch* launch : launches) {
    const KernelCounts counts = launch->scaled_counts();
    const double bytes = counts.dram_read_bytes + counts.dram_written_bytes;
    const double once = cost.bytes > 0 ? std::min(bytes, cost.bytes) : bytes;
    counted += bytes;
    moved += once;
    again += (bytes - once) * (1 - found_in_l2(launch->reuse, gpu));
  }
  if (counted <= 0) return 1;
  const double first = cost.bytes > 0 ? std::min(moved, cost.bytes) : moved, half = gpu.l2_bytes / 2;
  const double kept = std::clamp(1 - first / half, 0.0, 1.0), found = std::clamp(2 - first / half, 0.0, 1.0);
  return (first * (1 - kept) + (moved - first) * (1 - found) + again) / counted;
}

Ceilings ceilings_of(const GpuDescription& gpu) {
  Ceilings ceilings;
  ceilings.copy_bytes_per_second = gpu.dram_bytes_per_second;
  ceilings.flops_per_second = {
      {DType::f32, gpu.f32_flops()}, {DType::bf16, gpu.tensor_flops()}, {DType::f16, gpu.tensor_flops()}};
  return ceilings;
}

std::vector<const CountedLaunch*> CountedPass::of_call(size_t call) const {
  const std::vector<int64_t>& owners = profiler->launch_owners();
  std::vector<const CountedLaunch*> found;
  for (size_t i = 0; i < launches.size(); ++i)
    if (owners[i] == int64_t(call)) found.push_back(&launches[i]);
  return found;
}

CountedPass count_pass(const ProfileRequest& request, const GpuDescription& gpu, const CountRequest& how) {
  const KernelCounter& counter = kernel_counter(Device::simt);
  PLUME_CHECK(
      counter.counts_memory(),
      "--gpu: the simt device of this build does not count; what does: its target plume_counted (g++, "
      "no sanitizers)");
  std::map<std::string, CompiledKernel> compiled;
  if (!how.kernel_report.empty()) compiled = read_kernel_report(how.kernel_report, how.arch);
  std::unique_ptr<MachineCode> machine_code;
  if (!how.machine_code.empty()) machine_code = std::make_unique<MachineCode>(how.machine_code, how.arch);
  CountedPass pass;
  pass.profiler = std::make_unique<Profiler>(context(Device::simt));
  const std::vector<ProfileCall>& calls = pass.profiler->calls();
  const std::vector<int64_t>& owners = pass.profiler->launch_owners();
  // Blocks that are not run leave their part of a result unwritten, and what the next kernel finds there
  // decides where its lanes part.
  const ZeroedBlocks zeroed;
  std::vector<uint64_t> blocks;  // to run of each launch; those behind the end: none
  CountOptions options = count_options(gpu, how.blocks, how.places || machine_code);
  options.blocks_of_launch = [&](uint64_t launch) { return launch < blocks.size() ? blocks[launch] : 0; };
  counter.begin(options);
  ModelRun::Options blank = request.options;
  blank.blank = true;
  ModelRun run(request.model, request.workload, request.dtype, Device::simt, blank);
  counter.end();
  const auto count = [&] {
    counter.begin(options);
    pass.profiler->learn([&] { run.pass(); });
    return counter.end();
  };
  count();  // casts and packs what later passes find
  std::vector<CountedLaunch> launches = count(), probes;
  const uint64_t most = how.blocks > 0 ? how.blocks : CountOptions::kAllBlocks;
  SamplingPlan plan;
  if (how.choose) {
    const auto first = int64_t(how.choose(calls)), end = int64_t(end_of_call(calls, size_t(first)));
    for (const int64_t owner : owners) blocks.push_back(owner >= first && owner < end ? most : 0);
  } else if (how.blocks > 0) {
    blocks = plan_probes(calls, owners, launches);
    probes = count();
    plan = plan_sampling(calls, owners, probes, how.blocks);
    blocks = plan.blocks;
  } else {
    blocks.assign(launches.size(), most);
  }
  CachingAllocator& memory = device_allocator(Device::simt);
  memory.reset_peak();
  pass.launches = count();
  pass.sampling = in_words(plan, probes, pass.launches);
  if (!probes.empty()) fill_in(plan, probes, pass.launches);
  set_registers(pass.launches, compiled);
  pass.instructions_from = count_instructions(pass.launches, machine_code.get(), how);
  pass.unknown_registers = size_t(std::count_if(pass.launches.begin(), pass.launches.end(),
                                                [](const CountedLaunch& l) { return l.registers == 0; }));
  const size_t seen = pass.profiler->launch_owners().size();
  if (seen != pass.launches.size())
    fail(ErrorKind::internal, "profile: {} launches were seen, {} counted", seen, pass.launches.size());
  pass.classes = run.classes();
  pass.parameters = run.model().parameter_count();
  pass.memory = memory.statistics();
  return pass;
}

std::vector<Prediction> predict_call(const CountedPass& pass, size_t call, const GpuDescription& gpu) {
  const std::vector<const CountedLaunch*> launches = pass.of_call(call);
  const PredictionOptions options{.dram_share = dram_share(pass.profiler->calls()[call].cost, launches, gpu)};
  std::vector<Prediction> predictions;
  for (const CountedLaunch* launch : launches) predictions.push_back(predict(*launch, gpu, options));
  return predictions;
}

void add(RowPrediction& row, const std::vector<const CountedLaunch*>& launches,
         const std::vector<Prediction>& predictions) {
  for (const CountedLaunch* launch : launches) row.counts += launch->scaled_counts();
  for (const Prediction& p : predictions) {
    row.low += p.low;
    row.high += p.high;
    for (size_t b = 0; b < kBounds; ++b) row.parts[b] += p.parts[b];
    if (p.seconds > row.longest) {
      row.longest = p.seconds;
      row.occupancy = p.occupancy;
    }
  }
  std::tie(row.bound, row.second) = two_largest(row.parts);
}

PredictedProfile predict_profile(const ProfileRequest& request, const GpuDescription& gpu,
                                 const CountRequest& how) {
  CountedPass counted = count_pass(request, gpu, how);
  const std::vector<ProfileCall>& calls = counted.profiler->calls();
  PredictedProfile result;
  ProfileReport& report = result.report;
  MeasuredPass pass;
  pass.calls.resize(calls.size());
  pass.self_seconds.assign(calls.size(), 0);
  report.predictions.resize(calls.size());
  double outside = 0;
  for (size_t i = 0; i < counted.launches.size(); ++i) {
    if (counted.profiler->launch_owners()[i] >= 0) continue;
    const Prediction p = predict(counted.launches[i], gpu);
    outside += p.seconds;
    report.low_seconds += p.low;
    report.high_seconds += p.high;
  }
  for (size_t c = 0; c < calls.size(); ++c) {
    RowPrediction& row = report.predictions[c];
    const std::vector<Prediction> predictions = predict_call(counted, c, gpu);
    for (const Prediction& p : predictions) pass.self_seconds[c] += p.seconds;
    add(row, counted.of_call(c), predictions);
    report.low_seconds += row.low;
    report.high_seconds += row.high;
  }
  for (size_t i = 0; i < calls.size();) i = lay_out(calls, i, pass);
  pass.seconds += outside;

  report.request = request;
  report.kernels = sum_by_kernel(counted.launches);
  report.machine = gpu.name + " (predicted)";
  report.predicted_for = gpu.name;
  report.unknown_registers = counted.unknown_registers;
  report.notes = {counted.instructions_from};
  report.classes = counted.classes;
  report.parameters = counted.parameters;
  report.macs_per_image = forward_macs(request, counted.classes);
  report.memory = counted.memory;
  report.notes.push_back(counted.sampling);
  report.alone_seconds = pass.seconds;
  counted.profiler->assume(std::move(pass));
  report.profile = counted.profiler->profile();
  result.profiler = std::move(counted.profiler);
  return result;
}

}  // namespace plume::tools
