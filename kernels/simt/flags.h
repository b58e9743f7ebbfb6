// Waiting for another block of the same launch, and what a launch says to those who predict its time.
#pragma once
#include <cstdint>
#include <cstdlib>

#include "engine/profiler/kernel_counts.h"
#include "kernels/simt/simt.h"

namespace simt {

#if SIMT_EMU
namespace emu {
#if defined(PLUME_COUNTERS)
bool count_is_sample();
void count_reuse(plume::ReuseDistance reuse);
#else
constexpr bool count_is_sample() { return false; }
inline void count_reuse(plume::ReuseDistance) {}
#endif
}  // namespace emu

// True where only some of the launch's blocks run, to be counted. They are then those of blockIdx, whatever
// the order in which they start, and what others should have left is missing. Never on a GPU.
inline bool is_sample() { return emu::count_is_sample(); }

// Waits until *flag is not 0, and then sees what was written before the __threadfence and the atomic that set
// it. One thread calls; the block's barrier hands on what it sees. Blocks run one after the other here, in
// the order in which they start: what is not set yet would be set by a block that has not started, and on a
// GPU might never start. A sample does not wait.
#if defined(PLUME_RACE) || defined(PLUME_COUNTERS)
__attribute__((noinline))
#endif
SIMT_NO_TSAN SIMT_NOT_INSTRUMENTED inline void
wait_until_set(unsigned* flag, emu::Location where = emu::Location::current()) {
  emu::race_atomic(flag, sizeof *flag, __builtin_return_address(0));
  emu::count_atomic(flag, sizeof *flag, __builtin_return_address(0));
  if (__atomic_load_n(flag, __ATOMIC_RELAXED) != 0 || is_sample()) return;
  emu::this_block->die(where, "deadlock: waits for a flag that no block before this one has set");
}

// Of the launch that this host thread makes next.
inline void declare_reuse(plume::ReuseDistance reuse) { emu::count_reuse(reuse); }

// The L2 cache by which launches are cut up: an H100's, or PLUME_SIMT_L2_KIB.
inline int64_t l2_bytes() {
  const char* kib = std::getenv("PLUME_SIMT_L2_KIB");
  return (kib && *kib ? std::strtoll(kib, nullptr, 10) : int64_t{50} << 10) << 10;
}

#else
__device__ constexpr bool is_sample() { return false; }

__device__ __forceinline__ void wait_until_set(const unsigned* flag) {
  constexpr unsigned kNanoseconds = 100;
  unsigned value;
  for (;;) {
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(flag) : "memory");
    if (value != 0) return;
    __nanosleep(kNanoseconds);
  }
}

inline void declare_reuse(plume::ReuseDistance) {}

// Of the current device.
inline int64_t l2_bytes() {
  int device = 0, bytes = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&bytes, cudaDevAttrL2CacheSize, device);
  return bytes;
}
#endif

}  // namespace simt
