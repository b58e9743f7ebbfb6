// What kernels do, counted while they run: filled in by the simt device where it was built with counters
// (PLUME_COUNTERS). Units are those of a GPU's profiler: a request is one memory instruction of one warp.
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/core/device.h"

namespace plume {

// Sums over the warps that ran. `ideal` is what the same bytes would need side by side.
struct KernelCounts {
  // Warps that entered a piece of straight code here, and their active lanes (32 where nothing diverges).
  double steps = 0, step_lanes = 0;
  // Loads and stores of global memory; bytes without those that several lanes share.
  double loads = 0, stores = 0, global_lanes = 0, global_bytes = 0;
  double global_lane_bytes = 0, shared_lane_bytes = 0;  // shared ones once for each lane
  double sectors = 0, ideal_sectors = 0;                // of 32 bytes
  double lines = 0;                                     // of 128 bytes
  // Loads and stores of shared memory, ldmatrix among them. A wavefront serves each bank once.
  double shared_loads = 0, shared_stores = 0, shared_lanes = 0, shared_bytes = 0;
  double wavefronts = 0, ideal_wavefronts = 0;
  double l2_bytes = 0, dram_read_bytes = 0, dram_written_bytes = 0;  // by the cache model
  double barriers = 0, shuffles = 0, mma = 0, ldmatrix = 0;          // per warp; shuffles: votes, too
  // Atomic instructions, their lanes, and the turns they take where lanes share an address.
  double atomics = 0, atomic_lanes = 0, atomic_turns = 0;
  // How often a warp must wait for loads of global memory, and the bytes that were then on their way: all
  // that it loads without a store, atomic, warp operation or barrier between. At most, that is: a compiler
  // that has no registers left loads less at once.
  double waits = 0, waited_bytes = 0;

  // Of warps. The only count here that is an estimate: from the size of the code that the host's compiler
  // makes of the same source; or, where the compiled kernel is at hand (CompiledCounts), from its code.
  double instructions = 0;

  double requests() const { return loads + stores; }
  double shared_requests() const { return shared_loads + shared_stores; }
  double bytes_in_flight() const { return waits > 0 ? waited_bytes / waits : 0; }
  double lanes_per_request() const { return requests() > 0 ? global_lanes / requests() : 0; }
  KernelCounts& operator+=(const KernelCounts& other);
  KernelCounts& operator*=(double factor);
};

// A line of the source, by the compiler's path to the file. Unknown places have an empty one.
struct CountedPlace {
  std::string file;
  int line = 0;
  KernelCounts counts;
};

// What an SM executes instructions with: pipes of their own.
enum class Pipe : uint8_t { fma, alu, special, load_store, tensor, fp64, uniform, control };
inline constexpr int kPipes = 8;
const char* name(Pipe pipe);

// What the code of a kernel that was compiled for a GPU says beyond its source. Lines are of the source,
// "kernels/x.cu:20", those of functions followed by where they are called.
struct CompiledCounts {
  bool known = false;
  double spilled_bytes = 0;       // of a thread, stores and loads
  double local_instructions = 0;  // loads and stores of local memory: spilled registers, arrays in none
  std::string local_line;         // the first of them
  std::array<double, kPipes> instructions{};
  // As in KernelCounts, but in the order of the machine code: an instruction that needs what was loaded.
  // Loads of one batch that are needed far from each other are several waits: not for sums of latencies.
  double waits = 0, waited_bytes = 0;
  std::string wait_line;  // where most of the waits are
  double bytes_in_flight() const { return waits > 0 ? waited_bytes / waits : 0; }
  // Loads in a loop of tensor-core instructions that are needed before most of those are issued.
  struct EarlyConsumer {
    std::string load, consumer;  // lines
    int tensor_before = 0, tensor_in_loop = 0;
  };
  std::vector<EarlyConsumer> early;
};

// What a launch says of itself where its blocks read again what other blocks of it have read: how many bytes
// all blocks touch between the two, for what comes back soonest and for what comes back last. Nothing, where
// the second reading is always found in a cache, or is counted as what it is because one block does both.
struct ReuseDistance {
  double least = 0, most = 0;
};

struct CountedLaunch {
  std::string kernel;
  unsigned grid[3] = {1, 1, 1}, block[3] = {1, 1, 1};
  uint64_t blocks = 0, counted_blocks = 0;  // of the launch; of them, those that ran
  uint64_t shared_bytes = 0;                // of a block, static and dynamic
  double registers = 0;                     // of a thread, where somebody knows (ptxas); else 0
  ReuseDistance reuse;                      // as the launch says
  CompiledCounts compiled;                  // of the counted blocks
  KernelCounts counts;                      // of the counted blocks
  std::vector<CountedPlace> places;         // in order of file and line
  unsigned threads() const { return block[0] * block[1] * block[2]; }
  unsigned warps() const { return (threads() + 31) / 32; }
  // The counts of all blocks, if those that were not run are like those that were.
  KernelCounts scaled_counts() const;
};

// Caches are sets of lines of 128 bytes that are filled by sectors of 32, the least recently used one goes
// first. Every block begins with an empty L1; the L2 is empty when counting begins.
struct CacheShape {
  uint64_t bytes = 0;
  unsigned ways = 16;
};

struct CountOptions {
  // Runs at most this many blocks of a launch, spread over it; 0: all. What the others would have written is
  // missing then.
  uint64_t blocks_per_launch = 0;
  // The same for each launch on its own, by its number since counting began; here 0 is none, kAllBlocks all.
  std::function<uint64_t(uint64_t launch)> blocks_of_launch;
  static constexpr uint64_t kAllBlocks = ~uint64_t{0};
  bool cold_launches = false;  // the L2 is emptied before every launch
  bool places = true;          // source lines (asks addr2line, where it is installed)
  CacheShape l1{uint64_t{128} << 10, 16};
  CacheShape l2{uint64_t{40} << 20, 16};
};

struct KernelCounter {
  uint64_t (*launches)() = nullptr;  // of the calling host thread, ever
  // Launches of the calling host thread between the two are counted, in order. Null where the device is not
  // built with counters.
  void (*begin)(const CountOptions& options) = nullptr;
  std::vector<CountedLaunch> (*end)() = nullptr;
  bool counts_memory() const { return begin != nullptr; }
};
void register_kernel_counter(Device device, const KernelCounter& counter);
// All null when the device does not count either.
const KernelCounter& kernel_counter(Device device);

}  // namespace plume
