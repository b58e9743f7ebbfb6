#include "engine/profiler/gpu_model.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <tuple>

namespace plume {
namespace {

// Copies reach this part of the copy bandwidth when reads and writes mix with other work; the rest is turns
// between them. From public measurements of stream kernels on A100 and H100.
constexpr double kDramEfficiency = 0.93;
// Schedulers find an instruction to issue in four of five cycles in well-filled kernels (profiles of
// GEMM-free kernels on A100).
constexpr double kIssueEfficiency = 0.8;
// mma.sync reaches 62 % of the dense rate on Hopper, where the whole is wgmma's (microbenchmarks by Luo and
// others, 2024).
constexpr double kMmaEfficiency = 0.62;
constexpr double kMmaFlops = 2.0 * 16 * 8 * 16;
// A thread without a report of ptxas. __launch_bounds__(256, 1) kernels here have 36 to 156.
constexpr double kUnknownRegisters = 80;
constexpr double kRegisterGranule = 8,
                 kReservedShared = 1024;                    // CUDA programming guide, compute capability 8, 9
constexpr double kBarrierClocks = 30, kShuffleClocks = 25;  // microbenchmarks by Jia and others, 2018
// Bounds overlap, but not wholly: the exponent of the norm that joins them. 3: two equal ones take 1.26 times
// one.
constexpr double kSmoothness = 3;

// Warp instructions that a pipe of an SM starts per clock, by the CUDA programming guide's table of
// throughputs. FMA by its FLOPs.
constexpr double kAluPerClock = 2, kSpecialPerClock = 0.5, kUniformPerClock = 2;

// Clocks of an SM for the instructions of its pipes; 0 where they are not known.
double busiest_pipe(const CompiledCounts& code, const GpuDescription& gpu) {
  const auto of = [&](Pipe pipe) { return code.instructions[size_t(pipe)]; };
  return std::max({of(Pipe::alu) / kAluPerClock, of(Pipe::special) / kSpecialPerClock,
                   of(Pipe::uniform) / kUniformPerClock, of(Pipe::fma) * 64 / gpu.f32_flops_per_clock});
}

double resident_blocks(const CountedLaunch& launch, const GpuDescription& gpu) {
  const double threads = launch.warps() * 32.0;
  const double per_thread =
      std::ceil((launch.registers > 0 ? launch.registers : kUnknownRegisters) / kRegisterGranule);
  const double by_registers = std::floor(gpu.registers_per_sm / (per_thread * kRegisterGranule * threads));
  const double by_shared =
      std::floor(gpu.shared_bytes_per_sm / (double(launch.shared_bytes) + kReservedShared));
  const double by_threads = std::floor(gpu.threads_per_sm / threads);
  return std::max(std::min({by_registers, by_shared, by_threads, gpu.blocks_per_sm}), 1.0);
}

// How far kernels that are held up so may lie from the prediction.
std::pair<double, double> spread(Bound bound, bool compiled) {
  switch (bound) {
    case Bound::dram:
      return {0.87, 1.2};
    case Bound::l2:
    case Bound::tensor:
      return {0.8, 1.3};
    case Bound::issue:  // without machine code the instructions themselves are an estimate
      if (!compiled) return {0.45, 1.6};
      [[fallthrough]];
    default:
      return {0.7, 1.45};
  }
}

}  // namespace

const char* name(Bound bound) {
  constexpr const char* kNames[kBounds] = {"dram",   "l2",      "load/store", "issue",
                                           "tensor", "latency", "launch"};
  return kNames[size_t(bound)];
}

std::pair<Bound, Bound> two_largest(const BoundSeconds& parts) {
  std::array<size_t, kBounds> order{};
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return parts[a] > parts[b]; });
  return {Bound(order[0]), Bound(order[1])};
}

Prediction predict(const CountedLaunch& launch, const GpuDescription& gpu, const PredictionOptions& options) {
  Prediction p;
  const KernelCounts all = launch.scaled_counts();
  const double blocks = std::max<double>(double(launch.blocks), 1), warps = launch.warps();
  const double resident = resident_blocks(launch, gpu);
  p.occupancy = resident * warps * 32 / gpu.threads_per_sm;
  p.rounds = blocks / (gpu.sms * resident);
  // The SM with the most blocks decides, on the average SM's time each.
  const double tail = std::ceil(blocks / gpu.sms) / (blocks / gpu.sms);
  const double per_sm = tail / (gpu.sms * gpu.clock_hz);  // seconds for a clock's work spread over all SMs
  const auto part = [&](Bound bound) -> double& { return p.parts[size_t(bound)]; };

  const double dram = (all.dram_read_bytes + all.dram_written_bytes) * options.dram_share;
  part(Bound::dram) = dram / (gpu.dram_bytes_per_second * kDramEfficiency);
  part(Bound::l2) = all.l2_bytes / gpu.l2_bytes_per_second;
  part(Bound::load_store) = (all.wavefronts + all.lines + all.atomic_turns) * per_sm;
  const double scale = launch.counted_blocks > 0 ? blocks / double(launch.counted_blocks) : 1;
  part(Bound::issue) = std::max(all.instructions / (gpu.issue_per_clock * kIssueEfficiency),
                                busiest_pipe(launch.compiled, gpu) * scale) *
                       per_sm;
  if (all.mma > 0)
    part(Bound::tensor) = all.mma * kMmaFlops / (gpu.tensor_flops_per_clock * kMmaEfficiency) * per_sm;

  // What a warp does one thing after the other, in as many rounds as there are.
  const double total_warps = blocks * warps;
  const double missing_l1 = all.sectors > 0 ? std::min(1.0, all.l2_bytes / (32 * all.sectors)) : 0;
  const double missing_l2 = all.l2_bytes > 0 ? std::min(1.0, dram / all.l2_bytes) : 0;
  const double load = gpu.l1_latency + missing_l1 * (gpu.l2_latency - gpu.l1_latency) +
                      missing_l1 * missing_l2 * (gpu.dram_latency - gpu.l2_latency);
  const double chain = (all.waits * load + all.barriers * kBarrierClocks + all.shuffles * kShuffleClocks +
                        all.shared_loads * gpu.l1_latency / 4 + all.instructions * 1.0) /
                       total_warps;
  const double begin_and_end = gpu.dram_latency;  // arguments, code, the last stores
  part(Bound::latency) = (std::max(std::ceil(p.rounds - 0.02), 1.0) * chain + begin_and_end) / gpu.clock_hz;
  part(Bound::launch) = options.graph ? gpu.graph_node_seconds : gpu.launch_seconds;

  double joined = 0;
  for (int b = 0; b < kBounds - 1; ++b) joined += std::pow(p.parts[size_t(b)], kSmoothness);
  joined = std::pow(joined, 1 / kSmoothness);
  p.seconds = joined + part(Bound::launch);

  std::tie(p.bound, p.second) = two_largest(p.parts);
  const auto [low, high] = spread(p.bound, launch.compiled.known);
  p.low = p.seconds * low;
  p.high = p.seconds * high;
  return p;
}

double found_in_l2(const ReuseDistance& reuse, const GpuDescription& gpu) {
  const double half = gpu.l2_bytes / 2;
  if (half <= 0) return 0;
  // The sum of the parts found at all distances up to this one.
  const auto found_up_to = [&](double distance) {
    const double beyond = std::clamp(distance - half, 0.0, half);
    return std::min(distance, half) + beyond - beyond * beyond / (2 * half);
  };
  if (reuse.most <= reuse.least) return std::clamp(2 - reuse.most / half, 0.0, 1.0);
  return (found_up_to(reuse.most) - found_up_to(reuse.least)) / (reuse.most - reuse.least);
}

double bytes_in_flight_per_sm(const CountedLaunch& launch, const Prediction& prediction,
                              const GpuDescription& gpu) {
  const double blocks = std::max<double>(double(launch.blocks), 1);
  const double held =
      std::min(prediction.occupancy * gpu.threads_per_sm / 32, blocks * launch.warps() / gpu.sms);
  return launch.compiled.bytes_in_flight() * held;
}

}  // namespace plume
