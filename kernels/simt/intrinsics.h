// Barriers, warp operations, and the math and bit functions that CUDA C++ has and the host does not.
#pragma once
#include <math.h>

#include <algorithm>
#include <bit>
#include <cstdint>

#include "kernels/simt/emulator.h"

// The caller's place in the source: every operation that can wait takes it as its last, defaulted parameter.
#define SIMT_WHERE simt::emu::Location where = simt::emu::Location::current()

__forceinline__ void __syncthreads(SIMT_WHERE) { simt::emu::this_block->barrier(where); }
__forceinline__ int __syncthreads_count(int predicate, SIMT_WHERE) {
  return simt::emu::this_block->barrier(where, predicate != 0);
}
__forceinline__ int __syncthreads_or(int predicate, SIMT_WHERE) {
  return simt::emu::this_block->barrier(where, predicate != 0) != 0;
}
__forceinline__ int __syncthreads_and(int predicate, SIMT_WHERE) {
  return simt::emu::this_block->barrier(where, predicate == 0) == 0;
}
inline void __threadfence() { simt::emu::race_fence(); }
inline void __threadfence_block() {}
inline void __threadfence_system() { simt::emu::race_fence(); }

namespace simt::emu {

template <class T>
SIMT_INLINE T shuffle(unsigned mask, T value, int source, WarpKind kind, Location where) {
  static_assert(sizeof(T) <= kLaneBytes && std::is_trivially_copyable_v<T>);
  Block& block = *this_block;
  uint32_t participants;
  const LaneValues& values = block.meet(mask, kind, &value, sizeof value, where, participants);
  if (!(participants >> source & 1)) {
    block.die(where, "%s: lane %u reads lane %d, which is not in the mask 0x%08x or has left the kernel",
              name(kind), block.lane(), source, mask);
  }
  T result;
  std::memcpy(&result, values[source], sizeof result);
  count_thread(block.thread());
  return result;
}

SIMT_INLINE unsigned ballot(unsigned mask, bool predicate, WarpKind kind, Location where) {
  uint32_t participants, result = 0;
  const LaneValues& values = this_block->meet(mask, kind, &predicate, 1, where, participants);
  for (unsigned lane = 0; lane < kWarpLanes; ++lane)
    if (participants >> lane & 1) result |= uint32_t(values[lane][0]) << lane;
  count_thread(this_block->thread());
  return result;
}

inline int this_lane() { return int(this_block->lane()); }

}  // namespace simt::emu

__forceinline__ void __syncwarp(unsigned mask = ~0u, SIMT_WHERE) {
  uint32_t participants;
  simt::emu::this_block->meet(mask, simt::emu::WarpKind::sync, nullptr, 0, where, participants);
  simt::emu::count_thread(simt::emu::this_block->thread());
}
template <class T>
__forceinline__ T __shfl_sync(unsigned mask, T value, int source, int width = 32, SIMT_WHERE) {
  const int lane = simt::emu::this_lane();
  return simt::emu::shuffle(mask, value, (lane & ~(width - 1)) | (source & (width - 1)),
                            simt::emu::WarpKind::shfl, where);
}
template <class T>
__forceinline__ T __shfl_xor_sync(unsigned mask, T value, int flip, int width = 32, SIMT_WHERE) {
  const int lane = simt::emu::this_lane(), source = lane ^ flip;
  return simt::emu::shuffle(mask, value, source >= (lane & ~(width - 1)) + width ? lane : source,
                            simt::emu::WarpKind::shfl_xor, where);
}
template <class T>
__forceinline__ T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, SIMT_WHERE) {
  const int lane = simt::emu::this_lane();
  return simt::emu::shuffle(mask, value, (lane & (width - 1)) + int(delta) < width ? lane + int(delta) : lane,
                            simt::emu::WarpKind::shfl_down, where);
}
template <class T>
__forceinline__ T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, SIMT_WHERE) {
  const int lane = simt::emu::this_lane();
  return simt::emu::shuffle(mask, value, (lane & (width - 1)) >= int(delta) ? lane - int(delta) : lane,
                            simt::emu::WarpKind::shfl_up, where);
}
__forceinline__ unsigned __ballot_sync(unsigned mask, int predicate, SIMT_WHERE) {
  return simt::emu::ballot(mask, predicate != 0, simt::emu::WarpKind::ballot, where);
}
__forceinline__ int __any_sync(unsigned mask, int predicate, SIMT_WHERE) {
  return simt::emu::ballot(mask, predicate != 0, simt::emu::WarpKind::any, where) != 0;
}
__forceinline__ int __all_sync(unsigned mask, int predicate, SIMT_WHERE) {
  return simt::emu::ballot(mask, predicate == 0, simt::emu::WarpKind::all, where) == 0;
}

// The fast versions are the exact ones here: comparisons against the GPU need a tolerance.
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __frsqrt_rn(float x) { return 1.0f / sqrtf(x); }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline float __saturatef(float x) { return fminf(fmaxf(x, 0.0f), 1.0f); }  // NaN becomes 0, as on the GPU

inline unsigned __float_as_uint(float f) { return std::bit_cast<unsigned>(f); }
inline int __float_as_int(float f) { return std::bit_cast<int>(f); }
inline float __uint_as_float(unsigned u) { return std::bit_cast<float>(u); }
inline float __int_as_float(int i) { return std::bit_cast<float>(i); }
inline int __float2int_rn(float f) { return int(rintf(f)); }
inline int __float2int_rd(float f) { return int(floorf(f)); }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(unsigned(x)); }
inline int __clzll(long long x) { return std::countl_zero(static_cast<unsigned long long>(x)); }
inline int __ffs(int x) { return x ? std::countr_zero(unsigned(x)) + 1 : 0; }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((uint64_t(a) * b) >> 32); }
template <class T>
inline T __ldg(const T* p) {
  return *p;
}

// In the global namespace, as in CUDA C++; fmin and fmax: a NaN loses against a number.
#define SIMT_MIN_MAX(T)                            \
  inline T min(T a, T b) { return b < a ? b : a; } \
  inline T max(T a, T b) { return a < b ? b : a; }
SIMT_MIN_MAX(int)
SIMT_MIN_MAX(unsigned)
SIMT_MIN_MAX(long)
SIMT_MIN_MAX(unsigned long)
SIMT_MIN_MAX(long long)
SIMT_MIN_MAX(unsigned long long)
#undef SIMT_MIN_MAX
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
