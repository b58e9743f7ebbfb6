// How long a kernel would take on a GPU that is not here: a prediction from what was counted while the kernel
// ran on the simt device (kernel_counts.h). Nothing in it has been fitted to measurements; every constant
// says where it is from. Bytes, sectors, wavefronts and, with the compiled kernel at hand, registers, pipes
// and what waits for loads are exact for the blocks that ran; how often each instruction ran is fitted to the
// counts (kernels/simt/README.md); latencies, efficiencies and overlap are averages. Good for finding what
// holds a kernel up and for comparing two versions of it; two predictions whose ranges overlap say nothing
// about which is faster.
#pragma once
#include <array>
#include <string>
#include <utility>

#include "engine/profiler/kernel_counts.h"

namespace plume {

// tools/profiling/gpus/*.json, field by field; per SM where it says so.
struct GpuDescription {
  std::string name;
  double sms = 0, clock_hz = 0;
  double dram_bytes_per_second = 0;  // of a large copy, read and write
  double l2_bytes_per_second = 0, l2_bytes = 0;
  double l1_bytes = 0;  // per SM, shared memory included
  double shared_bytes_per_sm = 0, registers_per_sm = 65536;
  double threads_per_sm = 0, blocks_per_sm = 0, issue_per_clock = 4;
  double tensor_flops_per_clock = 0;                        // per SM, 16-bit inputs and float sums, dense
  double f32_flops_per_clock = 0;                           // per SM
  double dram_latency = 0, l2_latency = 0, l1_latency = 0;  // clocks, loaded
  double launch_seconds = 0, graph_node_seconds = 0;
  // FLOP/s of matrix products, for rooflines.
  double tensor_flops() const { return sms * clock_hz * tensor_flops_per_clock; }
  double f32_flops() const { return sms * clock_hz * f32_flops_per_clock; }
};

// What a kernel may be held up by.
enum class Bound : uint8_t { dram, l2, load_store, issue, tensor, latency, launch };
inline constexpr int kBounds = 7;
const char* name(Bound bound);
using BoundSeconds = std::array<double, kBounds>;
std::pair<Bound, Bound> two_largest(const BoundSeconds& parts);

struct Prediction {
  double seconds = 0, low = 0, high = 0;  // the range holds most kernels of its kind
  BoundSeconds parts{};                   // that each bound alone would take
  Bound bound{}, second{};
  double occupancy = 0;  // warps that an SM can hold at once, of those it could at most
  double rounds = 0;     // blocks, in rounds of what the GPU holds at once
};

struct PredictionOptions {
  bool graph = true;  // a node of a recorded graph, not a launch of its own
  // Of the DRAM traffic counted, the part that really leaves the L2: what was written a moment ago is still
  // there.
  double dram_share = 1;
};

Prediction predict(const CountedLaunch& launch, const GpuDescription& gpu,
                   const PredictionOptions& options = {});

// Of what a launch reads a second time, the part that is still in the L2: all that comes back before half of
// its bytes were touched, none after all of them, and evenly less between, since what one half of the SMs
// reads may lie there once more for the other. How much is touched between the two only the order of the
// blocks tells, which a sample of them does not show: the launch says it, and a launch that says nothing is
// taken not to read again what other blocks read.
double found_in_l2(const ReuseDistance& reuse, const GpuDescription& gpu);

// Bytes that an SM has on their way from memory while its warps wait, by the machine code; 0 where it is not
// known. Little's law wants 15 KB for the bandwidth of an H100, and 24 in practice.
double bytes_in_flight_per_sm(const CountedLaunch& launch, const Prediction& prediction,
                              const GpuDescription& gpu);

}  // namespace plume
