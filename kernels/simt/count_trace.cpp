// The counters. Kernels compiled with -fsanitize=thread and -fsanitize-coverage=trace-pc report their loads,
// stores and branches to the functions at the end of this file, which is linked in place of the sanitizers'
// own libraries; the access layer (Pack, ldmatrix, atomics) and the emulator report through counting.h. Each
// thread leaves a trace; a warp's traces are replayed in lockstep (count_warp.h) at every barrier and at the
// block's end, and each of its instructions is counted where it stands in the source.
#include "kernels/simt/count_trace.h"

#include <algorithm>
#include <cstring>

#include "kernels/simt/address_space.h"
#include "kernels/simt/flags.h"
#include "kernels/simt/kernel_name.h"

namespace simt::emu {
namespace {

thread_local constinit LaneTrace* active SIMT_TLS = nullptr;  // where the running thread leaves its trace

void record(EventKind kind, uintptr_t address, unsigned bytes, void* pc) {
  active->push_back({reinterpret_cast<uint64_t>(pc), uint8_t(kind), uint8_t(bytes), address});
}

void access(const void* pointer, size_t bytes, bool write, void* caller) {
  if (!active || bytes == 0) return;
  constexpr size_t kWidest = 16;
  static thread_local const auto& host = *new HostVariables;  // of this thread: its own storage is among them
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  const Block& block = *this_block;
  if (is_private(block, host, address)) return;
  const EventKind kind = is_shared(block, address)
                             ? (write ? EventKind::shared_store : EventKind::shared_load)
                             : (write ? EventKind::store : EventKind::load);
  for (size_t done = 0; done < bytes; done += kWidest)
    record(kind, address + done, unsigned(std::min(bytes - done, kWidest)), caller);
}

void locate(void* caller, Location where) {
  if (where.line > 0) counter().locate(reinterpret_cast<uint64_t>(caller), where);
}

unsigned sum_of_bytes(const LaneAccess* accesses, unsigned lanes) {
  unsigned sum = 0;
  for (unsigned i = 0; i < lanes; ++i) sum += accesses[i].bytes;
  return sum;
}

}  // namespace

Counter& counter() {
  static thread_local auto* counter = new Counter;  // outlives every launch of the thread
  return *counter;
}

void Counter::begin(const plume::CountOptions& options) {
  options_ = options;
  l1_ = std::make_unique<SectorCache>(options.l1);
  l2_ = std::make_unique<SectorCache>(options.l2);
  launches_.clear();
  counting_ = true;
}

std::vector<plume::CountedLaunch> Counter::end() {
  close_launch();
  counting_ = false;
  std::vector<plume::CountedLaunch> result;
  if (options_.places) find_lines(launches_, located_);
  for (CountingLaunch& one : launches_) result.push_back(finish(one, located_));
  launches_.clear();
  return result;
}

void Counter::close_launch() {
  if (!running_) return;
  running_ = false;
  estimate_instructions();
  for (const auto& [address, value] : changed_) std::memcpy(address, &value, sizeof value);
  changed_.clear();
  CountingLaunch& launch = launches_.back();
  for (uint32_t node = 0; node < counts_.size(); ++node)
    launch.places.emplace_back(lockstep_.nodes()[node].pc, counts_[node]);
}

void Counter::launch(const Launch& config, const char* pretty_name) {
  if (!counting_) return;
  close_launch();
  const uint64_t most = options_.blocks_per_launch;
  blocks_wanted_ = options_.blocks_of_launch ? options_.blocks_of_launch(launches_.size())
                   : most > 0                ? most
                                             : plume::CountOptions::kAllBlocks;
  running_ = blocks_wanted_ > 0;
  lockstep_.clear();
  const size_t nodes = lockstep_.nodes().size();
  counts_.assign(nodes, {});
  visits_.assign(nodes, 0);
  kinds_.assign(nodes, EventKind::step);
  if (options_.cold_launches) l2_->clear();
  CountingLaunch& launch = launches_.emplace_back();
  launch.summary.kernel = kernel_name(pretty_name);
  const dim3 g = config.grid, b = config.block;
  std::copy_n(std::initializer_list<unsigned>{g.x, g.y, g.z}.begin(), 3, launch.summary.grid);
  std::copy_n(std::initializer_list<unsigned>{b.x, b.y, b.z}.begin(), 3, launch.summary.block);
  launch.summary.blocks = uint64_t(g.x) * g.y * g.z;
  launch.summary.reuse = std::exchange(next_reuse_, {});
}

// One of each part of the grid, at a place that looks random and is always the same: the parts would else
// step through images or rows in time.
bool Counter::wants(uint64_t block, uint64_t blocks) {
  if (!counting_) return true;
  const uint64_t most = blocks_wanted_;
  bool wanted = most > 0;
  if (wanted && blocks > most) {
    const uint64_t part = block * most / blocks;
    const uint64_t first = (part * blocks + most - 1) / most, next = ((part + 1) * blocks + most - 1) / most;
    const uint64_t mixed = (part + 1) * 0x9E3779B97F4A7C15u;
    wanted = block == first + (mixed >> 33) % (next - first);
  }
  launches_.back().summary.counted_blocks += wanted;
  return wanted;
}

void Counter::before_atomic(void* address, unsigned bytes) {
  if (bytes != sizeof(uint32_t) || !is_sample()) return;
  uint32_t value = 0;
  std::memcpy(&value, address, sizeof value);
  changed_.try_emplace(address, value);
}

LaneTrace* Counter::trace(unsigned thread) {
  if (!counting_) return nullptr;
  used_ = std::max(used_, thread / kWarpLanes + 1);
  return &traces_[thread];
}

void Counter::replay(bool last) {
  if (!counting_) return;
  for (unsigned warp = 0; warp < used_; ++warp) {
    LaneTrace* traces = &traces_[size_t(warp) * kWarpLanes];
    uint64_t last_pc = 0;
    for (unsigned lane = 0; lane < kWarpLanes; ++lane)
      if (!traces[lane].empty()) last_pc = traces[lane].back().pc;
    lockstep_.replay(traces, from_[warp], [&](const WarpInstruction& i) { count(i, warp); });
    from_[warp] = last ? Lockstep::kStart : last_pc ? lockstep_.node_of(last_pc) : from_[warp];
    for (unsigned lane = 0; lane < kWarpLanes; ++lane) traces[lane].clear();
  }
}

void Counter::block_end(size_t shared_bytes) {
  if (!counting_) return;
  replay(true);
  for (unsigned warp = 0; warp < used_; ++warp) {
    wait(warp);
    async_wait(warp, 1.0);
  }
  used_ = 0;
  l1_->clear();
  auto& bytes = launches_.back().summary.shared_bytes;
  bytes = std::max<uint64_t>(bytes, shared_bytes);
}

void Counter::count(const WarpInstruction& instruction, unsigned warp) {
  if (counts_.size() <= instruction.node) {
    const size_t nodes = lockstep_.nodes().size();
    counts_.resize(nodes);
    visits_.resize(nodes);
    kinds_.resize(nodes);
  }
  visits_[instruction.node] += 1;
  kinds_[instruction.node] = EventKind(instruction.events[__builtin_ctz(instruction.lanes)]->kind);
  // A pointer may lead to shared memory in one lane and to global memory in another.
  for (uint32_t rest = instruction.lanes; rest;) {
    const Event& first = *instruction.events[__builtin_ctz(rest)];
    LaneAccess accesses[kWarpLanes];
    unsigned lanes = 0;
    for (uint32_t m = rest; m; m &= m - 1) {
      const auto lane = unsigned(__builtin_ctz(m));
      const Event& event = *instruction.events[lane];
      if (event.kind != first.kind) continue;
      accesses[lanes++] = {event.address, uint8_t(event.bytes), uint8_t(lane)};
      rest &= ~(1u << lane);
    }
    at_ = &counts_[instruction.node];
    count(EventKind(first.kind), first.bytes, accesses, lanes, warp);
  }
}

void Counter::count(EventKind kind, unsigned detail, LaneAccess* accesses, unsigned lanes, unsigned warp) {
  plume::KernelCounts& c = *at_;
  switch (kind) {
    case EventKind::step:
      c.steps += 1;
      c.step_lanes += lanes;
      return;
    case EventKind::load:
    case EventKind::store:
    case EventKind::async_load:
    case EventKind::async_load_l1:
      return global_access(kind, accesses, lanes, warp);
    case EventKind::async_store:
      return shared_access(true, accesses, lanes);
    case EventKind::async_wait:
      return async_wait(warp, double(detail) / double(accesses[0].address));
    case EventKind::shared_store:
      wait(warp);
      [[fallthrough]];
    case EventKind::shared_load:
      return shared_access(kind == EventKind::shared_store, accesses, lanes);
    case EventKind::ldmatrix:
      c.ldmatrix += 1;
      for (unsigned i = 0; i < lanes; ++i) accesses[i].bytes = 16;
      // The other lanes' addresses are not read.
      return shared_access(false, accesses, std::min(lanes, 8 * detail));
    case EventKind::atomic:
    case EventKind::shared_atomic:
      wait(warp);
      c.atomics += 1;
      c.atomic_lanes += lanes;
      c.atomic_turns += atomic_turns(accesses, lanes);
      if (kind == EventKind::atomic) atomic_sectors(accesses, lanes);
      return;
    case EventKind::barrier:
      wait(warp);
      c.barriers += 1;
      return;
    case EventKind::shuffle:
      wait(warp);
      c.shuffles += 1;
      return;
    case EventKind::mma:
      c.mma += 1;
      return;
  }
}

void Counter::global_access(EventKind kind, LaneAccess* accesses, unsigned lanes, unsigned warp) {
  plume::KernelCounts& c = *at_;
  const bool write = kind == EventKind::store, through_l1 = !write && kind != EventKind::async_load;
  if (write) wait(warp);
  footprint_.measure(accesses, lanes);
  (write ? c.stores : c.loads) += 1;
  c.global_lanes += lanes;
  c.global_bytes += footprint_.bytes;
  c.global_lane_bytes += sum_of_bytes(accesses, lanes);
  c.sectors += footprint_.sectors;
  c.ideal_sectors += (footprint_.bytes + kSectorBytes - 1) / kSectorBytes;
  c.lines += footprint_.lines;
  if (!write) (kind == EventKind::load ? waiting_ : copying_)[warp] += footprint_.bytes;
  for (const uintptr_t sector : footprint_.touched) {
    if (through_l1 && l1_->touch(sector)) continue;
    c.l2_bytes += kSectorBytes;
    // What is written reaches memory once, sooner or later, and is read from there only if it is missing.
    if (write && !l2_->write(sector)) c.dram_written_bytes += kSectorBytes;
    if (!write && !l2_->touch(sector)) c.dram_read_bytes += kSectorBytes;
  }
}

void Counter::atomic_sectors(LaneAccess* accesses, unsigned lanes) {
  plume::KernelCounts& c = *at_;
  footprint_.measure(accesses, lanes);
  for (const uintptr_t sector : footprint_.touched) {
    c.l2_bytes += kSectorBytes;
    if (!l2_->touch(sector)) c.dram_read_bytes += kSectorBytes;
    if (!l2_->write(sector)) c.dram_written_bytes += kSectorBytes;
  }
}

void Counter::shared_access(bool write, LaneAccess* accesses, unsigned lanes) {
  plume::KernelCounts& c = *at_;
  (write ? c.shared_stores : c.shared_loads) += 1;
  c.shared_lanes += lanes;
  c.wavefronts += wavefronts(accesses, lanes);
  c.shared_lane_bytes += sum_of_bytes(accesses, lanes);
  footprint_.measure(accesses, lanes);
  c.shared_bytes += footprint_.bytes;
  c.ideal_wavefronts += (footprint_.bytes + kLineBytes - 1) / kLineBytes;
}

// The warp needs what it has loaded.
void Counter::wait(unsigned warp) {
  if (waiting_[warp] == 0) return;
  at_->waits += 1;
  at_->waited_bytes += waiting_[warp];
  waiting_[warp] = 0;
}

// The warp waits for a share of its copies: with three groups on their way and one of them wanted, a third of
// the latency is still to come on average.
void Counter::async_wait(unsigned warp, double share) {
  const double bytes = copying_[warp] * share;
  if (bytes == 0) return;
  at_->waits += share;
  at_->waited_bytes += bytes;
  copying_[warp] -= bytes;
}

void count_launch(const Launch& config, const char* pretty_name) { counter().launch(config, pretty_name); }
bool count_block(uint64_t block, uint64_t blocks) { return counter().wants(block, blocks); }
bool count_is_sample() { return counter().is_sample(); }
void count_reuse(plume::ReuseDistance reuse) { counter().next_reuse(reuse); }
void count_block_end(size_t shared_bytes) { counter().block_end(shared_bytes); }
void count_thread(unsigned thread) { active = counter().trace(thread); }
void count_nothing() { active = nullptr; }
// A step of its own: the compiler may report a kernel's first one before its thread is known.
void count_thread_begin(unsigned thread) {
  count_thread(thread);
  if (active) record(EventKind::step, 0, 0, reinterpret_cast<void*>(uintptr_t{1}));
}
void count_barrier_release() { counter().replay(false); }

void count_barrier(Location where) {
  if (active) {
    record(EventKind::barrier, 0, 0, SIMT_RETURN_ADDRESS);
    locate(SIMT_RETURN_ADDRESS, where);
  }
  active = nullptr;
}

void count_warp_operation(WarpKind kind, Location where) {
  if (active && kind != WarpKind::ldmatrix && kind != WarpKind::sync) {
    record(kind == WarpKind::mma ? EventKind::mma : EventKind::shuffle, 0, 0, SIMT_RETURN_ADDRESS);
    locate(SIMT_RETURN_ADDRESS, where);
  }
  active = nullptr;
}

void count_ldmatrix(const void* row, int matrices, Location where) {
  if (!active) return;
  record(EventKind::ldmatrix, reinterpret_cast<uintptr_t>(row), unsigned(matrices), SIMT_RETURN_ADDRESS);
  locate(SIMT_RETURN_ADDRESS, where);
  active = nullptr;
}

void count_atomic(const void* address, unsigned bytes, void* caller) {
  if (!active) return;
  const auto at = reinterpret_cast<uintptr_t>(address);
  const bool shared = is_shared(*this_block, at);
  if (!shared) counter().before_atomic(const_cast<void*>(address), bytes);
  record(shared ? EventKind::shared_atomic : EventKind::atomic, at, bytes, caller);
}

// Two events at places of their own: lanes that read nothing take part in the second one alone.
void count_async_copy(const void* to, const void* from, unsigned bytes, unsigned valid, bool cached,
                      Location where, void* caller) {
  if (!active) return;
  void* const store = static_cast<char*>(caller) + 1;
  if (valid) {
    record(cached ? EventKind::async_load_l1 : EventKind::async_load, reinterpret_cast<uintptr_t>(from),
           valid, caller);
    locate(caller, where);
  }
  record(EventKind::async_store, reinterpret_cast<uintptr_t>(to), bytes, store);
  locate(store, where);
}

void count_async_wait(unsigned done, unsigned all, Location where, void* caller) {
  if (!active || done == 0) return;
  record(EventKind::async_wait, all, done, caller);
  locate(caller, where);
}

void count_access(const void* address, unsigned bytes, bool write, Location where, void* caller) {
  if (!active) return;
  const size_t before = active->size();
  access(address, bytes, write, caller);
  if (active->size() != before) locate(caller, where);
}

}  // namespace simt::emu

extern "C" void __sanitizer_cov_trace_pc() {
  if (simt::emu::active) simt::emu::record(simt::emu::EventKind::step, 0, 0, __builtin_return_address(0));
}
#define SIMT_ON_ACCESS(pointer, bytes, write) simt::emu::access(pointer, bytes, write, SIMT_CALLER)
#include "kernels/simt/tsan_calls.h"
