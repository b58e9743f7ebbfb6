// The counters of one host thread.
#pragma once
#include <map>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/profiler/kernel_counts.h"
#include "kernels/simt/count_memory.h"
#include "kernels/simt/count_warp.h"

#define SIMT_RETURN_ADDRESS __builtin_return_address(0)

namespace simt::emu {

// Counts by place of the code, until their lines are asked for.
struct CountingLaunch {
  plume::CountedLaunch summary;
  std::vector<std::pair<uint64_t, plume::KernelCounts>> places;
};
using Locations = std::unordered_map<uint64_t, Location>;

// Adds the source lines of places that are not known yet.
void find_lines(const std::vector<CountingLaunch>& launches, Locations& known);
// Sums by line, and over all.
plume::CountedLaunch finish(CountingLaunch& launch, const Locations& known);

class Counter {
 public:
  void begin(const plume::CountOptions& options);
  std::vector<plume::CountedLaunch> end();

  // What counting.h tells.
  void launch(const Launch& config, const char* pretty_name);
  bool wants(uint64_t block, uint64_t blocks);
  void next_reuse(plume::ReuseDistance reuse) { next_reuse_ = reuse; }
  bool is_sample() const { return counting_ && launches_.back().summary.blocks > blocks_wanted_; }
  LaneTrace* trace(unsigned thread);
  void replay(bool last);
  void block_end(size_t shared_bytes);
  // Before an atomic on global memory: what a sample of a launch counts there, it takes back at the end, so
  // that blocks which wait for the last of all are counted alike in every pass (common/last_block.h).
  void before_atomic(void* address, unsigned bytes);
  void locate(uint64_t pc, Location where) {
    if (last_located_ == pc) return;
    located_.try_emplace(pc, where);
    last_located_ = pc;
  }

 private:
  void close_launch();
  void estimate_instructions();
  void count(const WarpInstruction& instruction, unsigned warp);
  void count(EventKind kind, unsigned detail, LaneAccess* accesses, unsigned lanes, unsigned warp);
  void global_access(EventKind kind, LaneAccess* accesses, unsigned lanes, unsigned warp);
  void atomic_sectors(LaneAccess* accesses, unsigned lanes);
  void shared_access(bool write, LaneAccess* accesses, unsigned lanes);
  void wait(unsigned warp);
  void async_wait(unsigned warp, double share);

  plume::CountOptions options_;
  bool counting_ = false, running_ = false;
  uint64_t blocks_wanted_ = 0;         // of the launch that runs
  std::map<void*, uint32_t> changed_;  // by its atomics, where it is a sample: value before; 4 bytes each
  std::vector<CountingLaunch> launches_;
  plume::ReuseDistance next_reuse_;  // of the launch that comes
  Locations located_;
  uint64_t last_located_ = 0;

  std::vector<LaneTrace> traces_ = std::vector<LaneTrace>(kMaxThreads);
  unsigned used_ = 0;  // warps of the running block
  Lockstep lockstep_;
  std::vector<uint32_t> from_ = std::vector<uint32_t>(kMaxWarps, Lockstep::kStart);
  std::vector<plume::KernelCounts> counts_;  // by node
  std::vector<double> visits_;               // by node: how often a warp was there
  std::vector<EventKind> kinds_;             // by node
  plume::KernelCounts* at_ = nullptr;        // of the instruction that is counted
  double waiting_[kMaxWarps]{};              // bytes that a warp has asked for and not used
  double copying_[kMaxWarps]{};              // the same of its cp.async
  Footprint footprint_;
  std::unique_ptr<SectorCache> l1_, l2_;
};
Counter& counter();

}  // namespace simt::emu
