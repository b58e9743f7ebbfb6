// The emulator: runs a grid block by block on the calling thread.
//
// One fiber runs the threads of a block in a plain loop; only a thread that has to wait keeps its fiber, and
// another fiber continues the loop. A warp runs as far as it can before the next warp starts: the order that
// makes a forgotten barrier visible. Options::reverse turns threads, warps and blocks round.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <tuple>
#include <type_traits>

#include "kernels/simt/async_copy.h"
#include "kernels/simt/builtins.h"
#include "kernels/simt/counting.h"
#include "kernels/simt/fiber.h"
#include "kernels/simt/race.h"

#define SIMT_INLINE inline __attribute__((always_inline))
// A shared variable of the block. Its bytes are 0xFF (NaN, or -1) until the kernel writes them.
#define SMEM(name, ...) auto& name = ::simt::emu::shared_object<__VA_ARGS__>([] {})

namespace simt {

using stream_t = void*;

struct Launch {
  dim3 grid, block;
  size_t smem = 0;  // bytes of dynamic shared memory
  stream_t stream = nullptr;
};

namespace emu {

inline constexpr unsigned kMaxThreads = 1024, kWarpLanes = 32, kMaxWarps = kMaxThreads / kWarpLanes;
inline constexpr size_t kMaxShared = 227 * 1024;       // of a block, static and dynamic (sm_90)
inline constexpr size_t kMaxStaticShared = 48 * 1024;  // SMEM objects alone
inline constexpr size_t kRedZone = 64;  // between shared objects, watched by the address sanitizer
inline constexpr size_t kArena = kMaxShared + 64 * kRedZone;
inline constexpr int kMasksInFlight = 6;  // distinct masks that a warp may use at once
inline constexpr size_t kLaneBytes = 48;  // a lane's part of a warp operation

// Set from PLUME_SIMT_REVERSE, PLUME_SIMT_POISON and PLUME_SIMT_STACK_KIB when first asked for; tests change
// them between launches.
struct Options {
  bool reverse = false;  // threads, warps and blocks run last to first
  bool poison = true;    // fill shared memory with 0xFF
  size_t stack_bytes = 0;
};
Options& options();

enum class WarpKind : uint8_t { sync, shfl, shfl_xor, shfl_down, shfl_up, ballot, any, all, mma, ldmatrix };
const char* name(WarpKind kind);

using LaneValues = unsigned char[kWarpLanes][kLaneBytes];

// Lanes of one mask that meet. Values alternate between two buffers: a fast lane may already stand in the
// next operation while slow ones still have to read the results of this one.
struct WarpOp {
  uint32_t mask = 0, arrived = 0;
  uint32_t participants = 0;  // lanes whose values the last completed operation holds
  uint32_t unread = 0;        // of these, lanes that have not gone on yet
  unsigned generation = 0;
  WarpKind kind{};
  alignas(16) LaneValues values[2];
};

struct Warp {
  uint32_t live = 0;        // lanes that have not left the kernel
  uint32_t ready = 0;       // suspended lanes that may go on
  uint32_t at_barrier = 0;  // suspended in __syncthreads
  unsigned epoch = 0;       // counts __syncwarp of all live lanes
  int ops_used = 0;
  WarpOp ops[kMasksInFlight];
};

// Everything about the block that runs. One per host thread, reused from launch to launch.
class Block {
 public:
  Block();
  ~Block();
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  // Prints what went wrong where, and who waits for what, then aborts.
  [[noreturn]] __attribute__((format(printf, 3, 4))) void die(Location where, const char* format, ...);

  void run_grid(const Launch& config, void (*body)(void*), void* args, const char* pretty_name);

  unsigned thread() const { return current_->thread; }
  unsigned lane() const { return current_->thread % kWarpLanes; }
  Warp& warp() { return warps_[current_->thread / kWarpLanes]; }
  bool in_kernel() const { return current_ != &main_; }
  const Fiber& fiber() const { return *current_; }
  const Fiber& main_fiber() const { return main_; }
  uint64_t serial() const { return serial_; }
  uint64_t first_serial() const { return first_serial_; }
  uint32_t epoch() const { return epoch_; }
  const char* arena() const { return arena_; }
  char* dynamic_shared() const { return dynamic_; }
  void* allocate_static(size_t bytes, size_t alignment);
  AsyncCopies& copies() { return copies_[current_->thread]; }
  unsigned warps_in_block() const { return (thread_count_ + kWarpLanes - 1) / kWarpLanes; }

  // __syncthreads; returns the sum of `vote` over the block.
  SIMT_INLINE int barrier(Location where, int vote = 0) {
    count_barrier(where);
    if (exited_ || (arrived_ && !same(barrier_where_, where))) barrier_mistake(where);
    barrier_where_ = where;
    int& sum = votes_[epoch_ & 1];
    if (arrived_ == 0) sum = 0;
    sum += vote;
    if (++arrived_ == thread_count_) {
      release_barrier();
    } else {
      warp().at_barrier |= 1u << lane();
      suspend("__syncthreads", where);
    }
    count_thread(thread());
    return sum;
  }

  // The calling lane meets the others of the mask and leaves `bytes` bytes for them. The result holds until
  // the lane waits again: the values of all lanes, valid for those in `participants`. Counts nothing from
  // here on: callers say when the kernel goes on (count_thread).
  SIMT_INLINE const LaneValues& meet(uint32_t mask, WarpKind kind, const void* value, size_t bytes,
                                     Location where, uint32_t& participants) {
    count_warp_operation(kind, where);
    const uint32_t bit = 1u << lane();
    if (!(mask & bit))
      die(where, "%s: the calling lane %u is not in the mask 0x%08x", name(kind), lane(), mask);
    WarpOp& op = find_op(mask, where);
    if (op.arrived && op.kind != kind) warp_mistake(op, kind, where);
    op.kind = kind;
    LaneValues& values = op.values[op.generation & 1];
    if (bytes) std::memcpy(values[lane()], value, bytes);
    op.arrived |= bit;
    const Warp& w = warp();
    if ((op.arrived & w.live) == (mask & w.live)) {
      complete(op, bit);
    } else {
      suspend(name(kind), where);
    }
    op.unread &= ~bit;
    participants = op.participants;
    return values;
  }

  // The body of a fiber: starts threads that have not run yet until a warp mate may go on.
  template <class Call>
  SIMT_INLINE void run_loop(Call&& call) {
    do {
      start(next_++);
      call();
      exit_thread();
    } while (next_ < thread_count_ && !warp().ready);
  }

 private:
  static bool same(const Location& a, const Location& b) {
    return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0);
  }
  static void fiber_entry();

  SIMT_INLINE void go(Fiber* to) {
    Fiber* from = current_;
    current_ = to;
    switch_fiber(*from, *to);
  }
  SIMT_INLINE void suspend(const char* doing, Location where) {
    Fiber* me = current_;
    me->doing = doing;
    me->where = where;
    waiting_[me->thread] = me;
    go(pick());
    waiting_[me->thread] = nullptr;
    threadIdx = me->index;
  }
  SIMT_INLINE Fiber* pick() {
    if (Warp& w = warp(); w.ready) return take_ready(current_->thread / kWarpLanes);
    return pick_elsewhere();
  }
  SIMT_INLINE Fiber* take_ready(unsigned warp_number) {
    Warp& w = warps_[warp_number];
    const int lane = reverse_ ? 31 - __builtin_clz(w.ready) : __builtin_ctz(w.ready);
    w.ready &= ~(1u << lane);
    return waiting_[warp_number * kWarpLanes + unsigned(lane)];
  }
  SIMT_INLINE void complete(WarpOp& op, uint32_t completer) {
    Warp& w = warp();
    const uint32_t others = op.arrived & ~completer;
    if (op.kind == WarpKind::sync && (op.mask & w.live) == w.live) ++w.epoch;
    op.participants = op.unread = op.arrived;
    op.arrived = 0;
    ++op.generation;
    w.ready |= others;
  }
  SIMT_INLINE WarpOp& find_op(uint32_t mask, Location where) {
    Warp& w = warp();
    for (int i = 0; i < w.ops_used; ++i)
      if (w.ops[i].mask == mask) return w.ops[i];
    return new_op(mask, where);
  }
  SIMT_INLINE void start(unsigned number) {
    const unsigned thread = reverse_ ? thread_count_ - 1 - number : number;
    const unsigned q = thread / blockDim.x;
    Fiber& me = *current_;
    me.thread = thread;
    me.index = {thread - q * blockDim.x, q, 0};
    if (blockDim.y > 1 || blockDim.z > 1) me.index = {me.index.x, q % blockDim.y, q / blockDim.y};
    threadIdx = me.index;
    count_thread_begin(thread);
  }
  SIMT_INLINE void exit_thread() {
    count_nothing();
    AsyncCopies& copies = copies_[current_->thread];
    if (copies.groups || !copies.open.empty()) leave_copies(copies);
    Warp& w = warp();
    w.live &= ~(1u << lane());
    --live_;
    if (w.ops_used || arrived_) leave_waiting(w);
    exited_ += live_ > 0;
  }

  Fiber* fresh();
  Fiber* pick_elsewhere();
  WarpOp& new_op(uint32_t mask, Location where);
  void leave_waiting(Warp& w);
  void leave_copies(AsyncCopies& copies);
  void release_barrier();
  [[noreturn]] void barrier_mistake(Location where);
  [[noreturn]] void warp_mistake(const WarpOp& op, WarpKind kind, Location where);
  void check(const Launch& config);
  void run_block(size_t dynamic_bytes);
  char* allocate(size_t bytes, size_t alignment);

  Fiber main_;
  Fiber* current_ = &main_;
  unsigned fiber_count_ = 0, idle_count_ = 0;
  Fiber fibers_[kMaxThreads];
  Fiber* idle_[kMaxThreads];
  Fiber* waiting_[kMaxThreads]{};  // the suspended fiber of each thread

  unsigned thread_count_ = 0, next_ = 0, live_ = 0, exited_ = 0, arrived_ = 0;
  bool reverse_ = false;
  int votes_[2]{};
  Location barrier_where_{"", 0};
  uint32_t epoch_ = 0;         // counts barriers and blocks; never goes back
  uint64_t serial_ = 0;        // counts blocks over all launches
  uint64_t first_serial_ = 0;  // serial of the launch's first block
  Warp warps_[kMaxWarps];
  AsyncCopies copies_[kMaxThreads];

  size_t arena_used_ = 0, shared_bytes_ = 0, static_bytes_ = 0;
  char* dynamic_ = nullptr;
  void (*body_)(void*) = nullptr;
  void* args_ = nullptr;
  const char* pretty_name_ = "";
  alignas(128) char arena_[kArena];
};

// The block of the calling host thread while it is inside launch.
inline thread_local constinit Block* this_block SIMT_TLS = nullptr;

void run_grid(const Launch& config, void (*body)(void*), void* args, const char* pretty_name);
uint64_t launches_so_far();  // of the calling host thread

// A launch on a stream, which runs when the stream comes to it, and again whenever a recording is replayed.
struct PendingLaunch {
  Launch config;
  void (*body)(void*);
  std::shared_ptr<void> args;
  const char* pretty_name;

  void run() const { run_grid(config, body, args.get(), pretty_name); }
};
// Who is given launches on a stream (tests/cuda_host). The simt device has no streams.
using LaunchQueue = void (*)(PendingLaunch launch);
void set_launch_queue(LaunchQueue queue);
void enqueue(PendingLaunch launch);  // dies without a queue

template <class T, class Tag>
SIMT_NOT_INSTRUMENTED T& shared_object(Tag) {  // Tag, a lambda's type, tells one SMEM from another
  static_assert(std::is_trivially_default_constructible_v<std::remove_all_extents_t<T>>);
  static thread_local struct {
    uint64_t serial;
    T* object;
  } slot{};
  Block& block = *this_block;
  if (slot.serial != block.serial()) {
    slot = {block.serial(), static_cast<T*>(block.allocate_static(sizeof(T), alignof(T)))};
  }
  return *slot.object;
}

template <auto kKernel, class... Args>
void run_threads(void* packed) {
  auto& args = *static_cast<std::tuple<Args...>*>(packed);
  this_block->run_loop([&] { std::apply([](auto&... a) { kKernel(a...); }, args); });
}

}  // namespace emu

// A launch is cut up as for an H100.
constexpr int multiprocessors() { return 132; }
constexpr int most_shared_bytes() { return int(emu::kMaxShared); }

template <class T>
T* dyn_smem() {
  return reinterpret_cast<T*>(emu::this_block->dynamic_shared());
}

template <auto kKernel, class... Args>
void launch(const Launch& config, Args... args) {
  if (config.stream)
    return emu::enqueue({config, &emu::run_threads<kKernel, Args...>,
                         std::make_shared<std::tuple<Args...>>(args...), __PRETTY_FUNCTION__});
  std::tuple<Args...> packed{args...};
  emu::run_grid(config, &emu::run_threads<kKernel, Args...>, &packed, __PRETTY_FUNCTION__);
}

}  // namespace simt
