#include "kernels/simt/emulator.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <utility>

#include "kernels/simt/kernel_name.h"

#if SIMT_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace simt::emu {
namespace {

bool flag(const char* variable, bool otherwise) {
  const char* value = std::getenv(variable);
  return value && *value ? *value != '0' : otherwise;
}

size_t stack_bytes() {
  constexpr size_t kKiB = 1024;
  const char* value = std::getenv("PLUME_SIMT_STACK_KIB");
  const long asked = value ? std::strtol(value, nullptr, 10) : 0;
  if (asked > 0) return size_t(std::clamp(asked, 32L, 8192L) / 4 * 4) * kKiB;  // whole pages
  return (SIMT_ASAN ? 512 : 128) * kKiB;  // the address sanitizer makes large frames
}

void poison_region(const char* from, size_t bytes, bool on) {
#if SIMT_ASAN
  if (on) {
    __asan_poison_memory_region(from, bytes);
  } else {
    __asan_unpoison_memory_region(from, bytes);
  }
#else
  (void)from, (void)bytes, (void)on;
#endif
}

}  // namespace

Options& options() {
  static Options options{flag("PLUME_SIMT_REVERSE", false), flag("PLUME_SIMT_POISON", true), stack_bytes()};
  return options;
}

const char* name(WarpKind kind) {
  constexpr const char* kNames[] = {"__syncwarp",     "__shfl_sync",   "__shfl_xor_sync", "__shfl_down_sync",
                                    "__shfl_up_sync", "__ballot_sync", "__any_sync",      "__all_sync",
                                    "mma.sync",       "ldmatrix.sync"};
  return kNames[size_t(kind)];
}

Block::Block() { adopt_stack(main_); }

Block::~Block() {
  for (unsigned i = 0; i < fiber_count_; ++i) destroy_fiber(fibers_[i]);
#if !SIMT_FAST_SWITCH
  delete main_.context;
#endif
  poison_region(arena_, kArena, false);
}

void Block::die(Location where, const char* format, ...) {
  const std::string_view kernel = kernel_name(pretty_name_);
  std::fflush(stdout);
  std::fprintf(stderr, "simt: kernel %.*s: ", int(kernel.size()), kernel.data());
  va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
  std::fprintf(stderr, "\n");
  if (in_kernel()) {
    std::fprintf(stderr, "  block (%u,%u,%u) thread (%u,%u,%u)", blockIdx.x, blockIdx.y, blockIdx.z,
                 threadIdx.x, threadIdx.y, threadIdx.z);
    if (where.line) std::fprintf(stderr, " at %s:%d", where.file, where.line);
    std::fprintf(stderr, "\n");
  }
  constexpr unsigned kListed = 8;
  unsigned waiting = 0;
  for (unsigned t = 0; t < thread_count_; ++t) {
    const Fiber* fiber = waiting_[t];
    if (!fiber || ++waiting > kListed) continue;
    std::fprintf(stderr, "  thread (%u,%u,%u) waits in %s at %s:%d\n", fiber->index.x, fiber->index.y,
                 fiber->index.z, fiber->doing, fiber->where.file, fiber->where.line);
  }
  if (waiting > kListed) std::fprintf(stderr, "  and %u more threads wait\n", waiting - kListed);
  std::abort();
}

void Block::barrier_mistake(Location where) {
  if (exited_) {
    die(where, "early exit: %u thread(s) of the block left the kernel before this __syncthreads", exited_);
  }
  die(where, "divergent __syncthreads: other threads of the block wait at %s:%d", barrier_where_.file,
      barrier_where_.line);
}

void Block::warp_mistake(const WarpOp& op, WarpKind kind, Location where) {
  die(where, "mixed warp operations: lanes 0x%08x of mask 0x%08x are in %s, this lane calls %s", op.arrived,
      op.mask, name(op.kind), name(kind));
}

// A fiber that has ended its threads hands over here and is used again by the next block.
void Block::fiber_entry() {
#if SIMT_ASAN
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
  Block& block = *this_block;
  for (;;) {
    block.body_(block.args_);
    Fiber* to = block.live_ ? block.pick() : &block.main_;
    block.idle_[block.idle_count_++] = block.current_;
    block.go(to);
  }
}

Fiber* Block::fresh() {
  if (idle_count_) return idle_[--idle_count_];
  Fiber& fiber = fibers_[fiber_count_];
  create_fiber(fiber, fiber_count_, options().stack_bytes, &Block::fiber_entry);
  ++fiber_count_;
  return &fiber;
}

Fiber* Block::pick_elsewhere() {
  if (next_ < thread_count_) return fresh();
  const unsigned count = warps_in_block(), here = current_->thread / kWarpLanes;
  for (unsigned step = 1; step <= count; ++step) {
    const unsigned w = reverse_ ? (here + count - step) % count : (here + step) % count;
    if (warps_[w].ready) return take_ready(w);
  }
  die(current_->where,
      "deadlock: no thread can go on; a thread misses a __syncthreads or a lane misses an operation "
      "that names it in its mask");
}

WarpOp& Block::new_op(uint32_t mask, Location where) {
  Warp& w = warp();
  for (int i = 0; i < w.ops_used; ++i) {
    WarpOp& op = w.ops[i];
    if (op.arrived || op.unread) continue;
    op.mask = mask;
    return op;
  }
  if (w.ops_used == kMasksInFlight) die(where, "more than %d warp masks in flight", kMasksInFlight);
  WarpOp& op = w.ops[w.ops_used++];
  op.mask = mask;
  return op;
}

// The calling thread has left the kernel: warp mates no longer wait for it; a block barrier would, for ever.
void Block::leave_waiting(Warp& w) {
  if (arrived_) {
    die(barrier_where_, "early exit: the thread left the kernel while %u thread(s) wait in __syncthreads",
        arrived_);
  }
  for (int i = 0; i < w.ops_used; ++i) {
    WarpOp& op = w.ops[i];
    if (op.arrived && (op.arrived & w.live) == (op.mask & w.live)) complete(op, 0);
  }
}

void Block::leave_copies(AsyncCopies& copies) {
  if (!copies.open.empty())
    die(copies.open.front().where, "cp.async: the thread left the kernel without waiting for the copy");
  copies.groups = 0;
}

void Block::release_barrier() {
  arrived_ = 0;
  ++epoch_;
  count_barrier_release();
  for (unsigned i = 0, count = warps_in_block(); i < count; ++i) {
    warps_[i].ready |= warps_[i].at_barrier;
    warps_[i].at_barrier = 0;
  }
}

char* Block::allocate(size_t bytes, size_t alignment) {
  const size_t from = (arena_used_ + alignment - 1) / alignment * alignment;
  shared_bytes_ += bytes;
  if (shared_bytes_ > kMaxShared || from + bytes + kRedZone > kArena) {
    die({"", 0}, "shared memory: %zu bytes, a block can have %zu", shared_bytes_, kMaxShared);
  }
  arena_used_ = from + bytes + kRedZone;
  poison_region(arena_ + from, bytes, false);
  if (options().poison) std::memset(arena_ + from, 0xFF, bytes);
  return arena_ + from;
}

void* Block::allocate_static(size_t bytes, size_t alignment) {
  static_bytes_ += bytes;
  if (static_bytes_ > kMaxStaticShared) {
    die({"", 0}, "shared memory: SMEM objects take %zu bytes, %zu are allowed; use dyn_smem", static_bytes_,
        kMaxStaticShared);
  }
  return allocate(bytes, std::max<size_t>(alignment, 16));
}

void Block::check(const Launch& config) {
  const dim3 g = config.grid, b = config.block;
  const uint64_t threads = uint64_t(b.x) * b.y * b.z;
  const bool empty = threads == 0 || g.x == 0 || g.y == 0 || g.z == 0;
  const bool large = b.x > kMaxThreads || b.y > kMaxThreads || b.z > 64 || threads > kMaxThreads ||
                     g.x > 0x7fffffffu || g.y > 65535 || g.z > 65535;
  if (empty || large) {
    die({"", 0}, "bad launch configuration: grid (%u,%u,%u), block (%u,%u,%u)", g.x, g.y, g.z, b.x, b.y, b.z);
  }
  if (config.smem > kMaxShared) {
    die({"", 0}, "bad launch configuration: %zu bytes of dynamic shared memory, a block can have %zu",
        config.smem, kMaxShared);
  }
}

void Block::run_block(size_t dynamic_bytes) {
  ++serial_;
  ++epoch_;
  live_ = thread_count_;
  next_ = exited_ = arrived_ = 0;
  arena_used_ = shared_bytes_ = static_bytes_ = 0;
  poison_region(arena_, kArena, true);
  dynamic_ = allocate(dynamic_bytes, 128);
  for (unsigned i = 0, count = warps_in_block(); i < count; ++i) {
    Warp& w = warps_[i];
    const unsigned lanes = std::min(thread_count_ - i * kWarpLanes, kWarpLanes);
    w.live = lanes == kWarpLanes ? ~0u : (1u << lanes) - 1;
    w.ready = w.at_barrier = 0;
    for (int k = 0; k < w.ops_used; ++k) w.ops[k].arrived = w.ops[k].unread = 0;
    w.ops_used = 0;
  }
  go(fresh());
  count_block_end(shared_bytes_);
}

void Block::run_grid(const Launch& config, void (*body)(void*), void* args, const char* pretty_name) {
  pretty_name_ = pretty_name;
  body_ = body;
  args_ = args;
  thread_count_ = 0;
  check(config);
  thread_count_ = config.block.x * config.block.y * config.block.z;
  reverse_ = options().reverse;
  first_serial_ = serial_ + 1;
  blockDim = {config.block.x, config.block.y, config.block.z};
  gridDim = {config.grid.x, config.grid.y, config.grid.z};
  race_launch();
  count_launch(config, pretty_name);
  const uint64_t blocks = uint64_t(gridDim.x) * gridDim.y * gridDim.z;
  for (uint64_t i = 0; i < blocks; ++i) {
    const uint64_t block = reverse_ ? blocks - 1 - i : i;
    if (!count_block(block, blocks)) continue;
    const uint64_t row = block / gridDim.x;
    blockIdx = {unsigned(block % gridDim.x), unsigned(row % gridDim.y), unsigned(row / gridDim.y)};
    run_block(config.smem);
  }
}

namespace {
LaunchQueue launch_queue = nullptr;
thread_local uint64_t launches = 0;
}  // namespace

void set_launch_queue(LaunchQueue queue) { launch_queue = queue; }

void enqueue(PendingLaunch launch) {
  if (!launch_queue) {
    std::fprintf(stderr, "simt: a launch on a stream, and nobody who takes it\n");
    std::abort();
  }
  launch_queue(std::move(launch));
}

uint64_t launches_so_far() { return launches; }

void run_grid(const Launch& config, void (*body)(void*), void* args, const char* pretty_name) {
  ++launches;
  static thread_local const auto block = std::make_unique<Block>();
  this_block = block.get();
  this_block->run_grid(config, body, args, pretty_name);
  this_block = nullptr;
}

}  // namespace simt::emu
