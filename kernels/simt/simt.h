// simt.h - one kernel source, two compilers.
//   nvcc           : thin aliases over CUDA C++.
//   g++ / clang++  : executes the same kernels on the CPU, one block at a time per OS thread.
// Kernel authors use: SMEM(name, T[N]...), simt::dyn_smem<T>(), simt::launch<kernel>(cfg, args...).
#pragma once
#include <cstddef>
#include <cstdint>
#include <type_traits>

#if defined(__CUDACC__)
// ============================== nvcc ======================================
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#define SIMT_EMU 0
#define SMEM(name, ...) __shared__ std::type_identity_t<__VA_ARGS__> name
namespace simt {
using stream_t = cudaStream_t;
struct Launch {
  dim3 grid, block;
  unsigned smem = 0;
  stream_t stream = nullptr;
};
template <class T>
__device__ __forceinline__ T* dyn_smem() {
  extern __shared__ __align__(128) unsigned char simt_dyn_smem_[];
  return reinterpret_cast<T*>(simt_dyn_smem_);
}
template <auto K, class... A>
inline void launch(const Launch& c, A... a) {
  if (c.smem > 48u * 1024)
    cudaFuncSetAttribute((const void*)K, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)c.smem);
  K<<<c.grid, c.block, c.smem, c.stream>>>(a...);
}
}  // namespace simt
#else
// ============================ emulation ===================================
#include <sys/mman.h>
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <tuple>
#define SIMT_EMU 1
#if defined(__SANITIZE_ADDRESS__)
#define SIMT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIMT_ASAN 1
#endif
#endif
#ifdef SIMT_ASAN
#include <pthread.h>
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#define SIMT_NOTSAN __attribute__((no_sanitize("thread")))
#define __global__
#define __device__
#define __host__
#define __constant__
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(n) alignas(n)
#define SMEM(name, ...) auto& name = ::simt::emu::smem_obj<__VA_ARGS__>([] {})

// ---- vector types ---------------------------------------------------------
struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
#define SIMT_V2(N, T, A) \
  struct alignas(A) N {  \
    T x, y;              \
  };                     \
  inline N make_##N(T x, T y) { return {x, y}; }
#define SIMT_V4(N, T, A) \
  struct alignas(A) N {  \
    T x, y, z, w;        \
  };                     \
  inline N make_##N(T x, T y, T z, T w) { return {x, y, z, w}; }
SIMT_V2(float2, float, 8)
SIMT_V2(int2, int, 8) SIMT_V2(uint2, unsigned, 8) SIMT_V4(float4, float, 16) SIMT_V4(int4, int, 16)
    SIMT_V4(uint4, unsigned, 16) SIMT_V4(uchar4, unsigned char, 4)

    // ---- half / bfloat16 (round to nearest even, NaN/Inf/subnormals kept) ------
    namespace simt::emu {
  inline float h2f(uint16_t h) {
    uint32_t w = uint32_t(h) << 16, s = w & 0x80000000u, t = w + w;
    float n = std::bit_cast<float>((t >> 4) + (0xE0u << 23)) * std::bit_cast<float>(0x7800000u);
    float d = std::bit_cast<float>((t >> 17) | (126u << 23)) - 0.5f;
    return std::bit_cast<float>(s |
                                (t < (1u << 27) ? std::bit_cast<uint32_t>(d) : std::bit_cast<uint32_t>(n)));
  }
  inline uint16_t f2h(float f) {
    float b = (std::fabs(f) * std::bit_cast<float>(0x77800000u)) * std::bit_cast<float>(0x08800000u);
    uint32_t w = std::bit_cast<uint32_t>(f), t = w + w, s = w & 0x80000000u,
             bias = std::max(t & 0xFF000000u, 0x71000000u);
    b = std::bit_cast<float>((bias >> 1) + 0x07800000u) + b;
    uint32_t u = std::bit_cast<uint32_t>(b), r = ((u >> 13) & 0x7C00u) + (u & 0xFFFu);
    return uint16_t((s >> 16) | (t > 0xFF000000u ? 0x7E00u : r));
  }
  inline float b2f(uint16_t b) { return std::bit_cast<float>(uint32_t(b) << 16); }
  inline uint16_t f2b(float f) {
    uint32_t u = std::bit_cast<uint32_t>(f);
    return (u & 0x7FFFFFFFu) > 0x7F800000u ? uint16_t(0x7FFF)
                                           : uint16_t((u + 0x7FFFu + ((u >> 16) & 1)) >> 16);
  }
}  // namespace simt::emu
#define SIMT_F16(T, TO, FROM)                              \
  struct T {                                               \
    uint16_t bits;                                         \
    T() = default;                                         \
    T(float f) : bits(simt::emu::FROM(f)) {}               \
    operator float() const { return simt::emu::TO(bits); } \
  };                                                       \
  struct alignas(4) T##2_ {                                \
    T x, y;                                                \
  };
SIMT_F16(__half, h2f, f2h)
SIMT_F16(__nv_bfloat16, b2f, f2b)
using __half2 = __half2_;
using half = __half;
using half2 = __half2;
using __nv_bfloat162 = __nv_bfloat162_;
inline float __half2float(__half h) { return h; }
inline __half __float2half(float f) { return f; }
inline float2 __half22float2(__half2 h) { return {h.x, h.y}; }
inline __half2 __float22half2_rn(float2 f) { return {f.x, f.y}; }
inline float __bfloat162float(__nv_bfloat16 h) { return h; }
inline __nv_bfloat16 __float2bfloat16(float f) { return f; }
inline float2 __bfloat1622float2(__nv_bfloat162 h) { return {h.x, h.y}; }
inline __nv_bfloat162 __float22bfloat162_rn(float2 f) { return {f.x, f.y}; }

// ---- built-in variables ---------------------------------------------------
inline thread_local constinit uint3 threadIdx{}, blockIdx{};
inline thread_local constinit struct simt_dim {
  unsigned x, y, z;
  operator dim3() const { return {x, y, z}; }
} blockDim{}, gridDim{};
inline constexpr int warpSize = 32;

// ---- fibers ---------------------------------------------------------------
extern "C" void simt_switch(void** save, void* to);
#if defined(__x86_64__)
asm(R"(.pushsection .text.simt_switch,"axG",@progbits,simt_switch,comdat
.weak simt_switch
.type simt_switch,@function
simt_switch:
  leaq -48(%rsp),%rsp
  movq %r15,(%rsp); movq %r14,8(%rsp); movq %r13,16(%rsp); movq %r12,24(%rsp); movq %rbx,32(%rsp); movq %rbp,40(%rsp)
  movq %rsp,(%rdi); movq %rsi,%rsp
  movq 48(%rsp),%r8
  movq (%rsp),%r15; movq 8(%rsp),%r14; movq 16(%rsp),%r13; movq 24(%rsp),%r12; movq 32(%rsp),%rbx; movq 40(%rsp),%rbp
  leaq 56(%rsp),%rsp
  jmp *%r8
.size simt_switch,.-simt_switch
.popsection)");
#else
#error "simt_switch: port me (aarch64: x19-x30, d8-d15, sp)"
#endif

namespace simt {
using stream_t = void*;
struct Launch {
  dim3 grid, block;
  unsigned smem = 0;
  stream_t stream = nullptr;
};
namespace emu {
struct Loc {  // std::source_location does not exist for clang 14 with libstdc++ 12
  const char* file;
  int line_;
  static constexpr Loc current(const char* f = __builtin_FILE(), int l = __builtin_LINE()) { return {f, l}; }
  constexpr const char* file_name() const { return file; }
  constexpr int line() const { return line_; }
};
struct Fiber {
  void* sp = nullptr;
  char* lo = nullptr;
  size_t size = 0;
  void* fake = nullptr;
  unsigned tid = 0;
  uint3 idx{};
  const unsigned* gen = nullptr;
  unsigned g = 0;
  Loc loc{};
  const char* what = "";
};
struct WarpOp {
  uint32_t mask = 0, arrived = 0;
  unsigned gen = 0;
  const char* what = "";
  alignas(16) char buf[2][32][16];
};
constexpr int kOps = 6;  // distinct masks in flight per warp
struct Warp {
  uint32_t live = 0;
  unsigned epoch = 0;
  int nops = 0;
  WarpOp ops[kOps];
};
struct Options {
  bool reverse = false, strict = true, poison = true;
  size_t stack = 64 << 10;
};
inline Options opt;
constexpr unsigned kMaxThreads = 1024, kArena = 228 << 10, kRed = 64;

struct Block {
  Fiber main;
  Fiber* cur = &main;
  Fiber pool[kMaxThreads];
  Fiber* idle[kMaxThreads];
  unsigned npool = 0, nidle = 0;
  Fiber* at[kMaxThreads]{};  // suspended fiber per CUDA thread
  unsigned ntid = 0, next = 0, live = 0, bar_arrived = 0, bar_gen = 0;
  int red[2]{};  // __syncthreads_{or,and,count}
  unsigned long serial = 0, launch_serial = 0, epoch = 0;
  Loc bar_loc{};
  Warp warps[kMaxThreads / 32];
  alignas(128) char arena[kArena];
  unsigned used = 0, peak = 0;
  char* dyn = nullptr;
  unsigned dyn_bytes = 0;
  void (*run)(void*) = nullptr;
  void* args = nullptr;
  const char* name = "";
  Block();
  ~Block() {
    for (unsigned i = 0; i < npool; ++i) munmap(pool[i].lo, pool[i].size);
  }
  [[noreturn]] void die(const char* msg, Loc l) {
    std::fprintf(stderr, "simt: %s: block (%u,%u,%u) thread %u (%u,%u,%u) at %s:%u\n", msg, blockIdx.x,
                 blockIdx.y, blockIdx.z, cur->tid, threadIdx.x, threadIdx.y, threadIdx.z, l.file_name(),
                 (unsigned)l.line());
    for (unsigned t = 0, n = 0; t < ntid && n < 8; ++t)
      if (at[t])
        std::fprintf(stderr, "  thread %u waits in %s at %s:%u\n", t, at[t]->what, at[t]->loc.file_name(),
                     (unsigned)at[t]->loc.line()),
            ++n;
    std::abort();
  }
  __attribute__((always_inline)) void go(Fiber* to) {
    Fiber* from = cur;
    cur = to;
#ifdef SIMT_ASAN
    __sanitizer_start_switch_fiber(&from->fake, to->lo, to->size);
#endif
    simt_switch(&from->sp, to->sp);
#ifdef SIMT_ASAN
    __sanitizer_finish_switch_fiber(from->fake, nullptr, nullptr);
#endif
  }
  static void entry();
  Fiber* fresh() {
    if (nidle) return idle[--nidle];
    Fiber* f = &pool[npool++];
    f->size = opt.stack;
    f->lo = (char*)mmap(nullptr, f->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                        -1, 0);
    if (f->lo == MAP_FAILED) {
      std::perror("simt: mmap");
      std::abort();
    }
    mprotect(f->lo, 4096, PROT_NONE);                                  // guard page
    void** top = (void**)(f->lo + f->size - (npool % 48) * 320 - 64);  // stagger: avoids L1 set conflicts
    top = (void**)((uintptr_t)top & ~uintptr_t(15));
    *--top = nullptr;
    *--top = (void*)&Block::entry;
    for (int i = 0; i < 6; ++i) *--top = nullptr;
    f->sp = top;
    return f;
  }
  Fiber* pick() {
    if (next < ntid) return fresh();
    for (unsigned k = 0, t = cur->tid; k < ntid; ++k) {
      if (++t >= ntid) t = 0;
      if (Fiber* f = at[t]; f && *f->gen != f->g) return f;
    }
    die("deadlock (divergent barrier or missing lane)", Loc::current());
  }
  __attribute__((always_inline)) void suspend(const unsigned& gen, unsigned g, const char* what, Loc loc) {
    Fiber* me = cur;
    me->gen = &gen;
    me->g = g;
    me->what = what;
    me->loc = loc;
    at[me->tid] = me;
    go(pick());
    at[me->tid] = nullptr;
    threadIdx = me->idx;
  }
  void start(unsigned n, unsigned& last, uint3& s) {  // begin emulated thread number n on the current fiber
    unsigned t = opt.reverse ? ntid - 1 - n : n;
    if (t == last + 1) {
      if (++s.x == blockDim.x) {
        s.x = 0;
        if (++s.y == blockDim.y) s.y = 0, ++s.z;
      }
    } else {
      unsigned q = t / blockDim.x;
      s = {t % blockDim.x, q % blockDim.y, q / blockDim.y};
    }
    last = t;
    cur->tid = t;
    cur->idx = s;
    threadIdx = s;
  }
  void exit_thread() {
    Warp& w = warps[cur->tid / 32];
    w.live &= ~(1u << (cur->tid & 31));
    --live;
    if (bar_arrived) {
      if (opt.strict) die("thread exited while others wait in __syncthreads", bar_loc);
      if (bar_arrived == live) release();
    }
    for (int i = 0; i < w.nops; ++i)
      if (WarpOp& o = w.ops[i]; o.arrived && (o.arrived & w.live) == (o.mask & w.live)) {
        o.arrived = 0;
        ++o.gen;
      }
  }
  void release() {
    bar_arrived = 0;
    ++bar_gen;
    ++epoch;
  }
  __attribute__((always_inline)) void sync(Loc loc) {
    if (opt.strict && bar_arrived && (bar_loc.line() != loc.line() || bar_loc.file_name() != loc.file_name()))
      die("divergent __syncthreads", loc);
    bar_loc = loc;
    unsigned g = bar_gen;
    if (++bar_arrived == live) return release();
    suspend(bar_gen, g, "__syncthreads", loc);
  }
  __attribute__((always_inline)) WarpOp& op(uint32_t mask) {
    Warp& w = warps[cur->tid / 32];
    for (int i = 0; i < w.nops; ++i)
      if (w.ops[i].mask == mask) return w.ops[i];
    for (int i = 0; i < w.nops; ++i)
      if (!w.ops[i].arrived) {
        w.ops[i].mask = mask;
        return w.ops[i];
      }  // recycle
    if (w.nops == kOps) die("too many distinct warp masks in flight", Loc::current());
    w.ops[w.nops].mask = mask;
    return w.ops[w.nops++];
  }
  __attribute__((always_inline)) void warp_wait(WarpOp& o, const char* what, Loc loc) {
    Warp& w = warps[cur->tid / 32];
    uint32_t bit = 1u << (cur->tid & 31);
    if (!(o.mask & bit)) die("warp op: calling lane not in mask", loc);
    if (o.arrived && std::strcmp(o.what, what))
      die("lanes of one mask meet in different warp operations", loc);
    unsigned g = o.gen;
    o.arrived |= bit;
    o.what = what;
    if ((o.arrived & w.live) == (o.mask & w.live)) {
      o.arrived = 0;
      ++o.gen;
      return;
    }
    suspend(o.gen, g, what, loc);
  }
  void* salloc(size_t n, size_t al) {
    unsigned o = unsigned((used + al - 1) / al * al);
    if (o + n + kRed > kArena) die("static+dynamic shared memory exceeds 227 KiB", Loc::current());
    used = unsigned(o + n + kRed);
    peak = std::max(peak, used);
#ifdef SIMT_ASAN
    __asan_unpoison_memory_region(arena + o, n);
#endif
    if (opt.poison) std::memset(arena + o, 0xFF, n);  // NaN in fp32/fp16/bf16, -1 in integers
    return arena + o;
  }
  void begin(unsigned n, unsigned smem) {
    ++serial;
    ++epoch;
    ntid = live = n;
    next = 0;
    bar_arrived = 0;
    used = 0;
#ifdef SIMT_ASAN
    __asan_poison_memory_region(arena, kArena);
#endif
    dyn = (char*)salloc(smem, 128);
    dyn_bytes = smem;
    for (unsigned w = 0; w * 32 < n; ++w) {
      warps[w].live = n - w * 32 >= 32 ? ~0u : (1u << (n - w * 32)) - 1;
      for (auto& o : warps[w].ops) o.arrived = 0;
    }
    go(fresh());
  }
};
inline Block& block() {
  static thread_local Block b;
  return b;
}
inline thread_local constinit Block* B = nullptr;
inline Block::Block() {
#ifdef SIMT_ASAN
  pthread_attr_t a;
  pthread_getattr_np(pthread_self(), &a);
  void* lo;
  pthread_attr_getstack(&a, &lo, &main.size);
  main.lo = (char*)lo;
  pthread_attr_destroy(&a);
#endif
}
inline void Block::entry() {
#ifdef SIMT_ASAN
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
  Block& b = *B;
  for (;;) {
    b.run(b.args);  // plain loop over not-yet-started threads
    Fiber* to = b.live ? b.pick() : &b.main;
    b.idle[b.nidle++] = b.cur;
    b.go(to);
  }
}
template <class T, class Tag>
inline T& smem_obj(Tag) {
  static_assert(std::is_trivially_default_constructible_v<std::remove_all_extents_t<T>>);
  static thread_local struct {
    unsigned long serial;
    T* p;
  } s{};
  if (s.serial != B->serial) s = {B->serial, (T*)B->salloc(sizeof(T), alignof(T) < 16 ? 16 : alignof(T))};
  return *s.p;
}
template <class T, class F>
__forceinline__ T warp_exchange(uint32_t mask, T v, const char* what, Loc loc, F src) {
  static_assert(sizeof(T) <= 16 && std::is_trivially_copyable_v<T>);
  WarpOp& o = B->op(mask);
  unsigned p = o.gen & 1, lane = B->cur->tid & 31;
  int s = src(int(lane));
  std::memcpy(o.buf[p][lane], &v, sizeof v);
  B->warp_wait(o, what, loc);
  if (!(mask >> s & 1)) B->die("shuffle reads a lane outside the mask", loc);
  T r;
  std::memcpy(&r, o.buf[p][s], sizeof r);
  return r;
}
#ifdef SIMT_RACE
void race_launch();
void race_atomic(void*, unsigned);
void race_fence();
#else
inline void race_launch() {}
inline void race_atomic(void*, unsigned) {}
inline void race_fence() {}
#endif
template <auto K, class... A>
void run_threads(void* p) {
  auto& args = *static_cast<std::tuple<A...>*>(p);
  Block& b = *B;
  unsigned last = ~1u;
  uint3 s{};
  while (b.next < b.ntid) {
    b.start(b.next++, last, s);
    std::apply([](auto&... a) { K(a...); }, args);
    b.exit_thread();
  }
}
}  // namespace emu
template <class T>
inline T* dyn_smem() {
  return reinterpret_cast<T*>(emu::B->dyn);
}
template <auto K, class... A>
void launch(const Launch& c, A... a) {
  emu::Block& b = emu::block();
  emu::B = &b;
  unsigned n = c.block.x * c.block.y * c.block.z;
  if (!n || n > emu::kMaxThreads || c.grid.y > 65535 || c.grid.z > 65535 || !c.grid.x)
    b.die("bad launch configuration", emu::Loc::current());
  std::tuple<A...> args{a...};
  b.run = &emu::run_threads<K, A...>;
  b.args = &args;
  ++b.launch_serial;
  emu::race_launch();
  blockDim = {c.block.x, c.block.y, c.block.z};
  gridDim = {c.grid.x, c.grid.y, c.grid.z};
  for (unsigned z = 0; z < c.grid.z; ++z)
    for (unsigned y = 0; y < c.grid.y; ++y)
      for (unsigned x = 0; x < c.grid.x; ++x) {
        blockIdx = {x, y, z};
        b.begin(n, c.smem);
      }
}
}  // namespace simt

// ---- synchronisation and warp intrinsics -----------------------------------
#define SIMT_LOC simt::emu::Loc loc = simt::emu::Loc::current()
__forceinline__ void __syncthreads(SIMT_LOC) { simt::emu::B->sync(loc); }
inline int __syncthreads_count(int p, SIMT_LOC) {
  auto& b = *simt::emu::B;
  int& r = b.red[b.epoch & 1];
  if (!b.bar_arrived) r = 0;
  r += p != 0;
  b.sync(loc);
  return r;
}
inline int __syncthreads_or(int p, SIMT_LOC) { return __syncthreads_count(p != 0, loc) != 0; }
inline int __syncthreads_and(int p, SIMT_LOC) { return __syncthreads_count(p == 0, loc) == 0; }
inline void __syncwarp(unsigned m = ~0u, SIMT_LOC) {
  auto& o = simt::emu::B->op(m);
  unsigned& e = simt::emu::B->warps[simt::emu::B->cur->tid / 32].epoch;
  unsigned g = o.gen;
  simt::emu::B->warp_wait(o, "__syncwarp", loc);
  if (m == ~0u) e = g + 1;
}
template <class T>
__forceinline__ T __shfl_sync(unsigned m, T v, int s, int w = 32, SIMT_LOC) {
  return simt::emu::warp_exchange(m, v, "__shfl_sync", loc,
                                  [=](int l) { return (l & ~(w - 1)) | (s & (w - 1)); });
}
template <class T>
__forceinline__ T __shfl_xor_sync(unsigned m, T v, int x, int w = 32, SIMT_LOC) {
  return simt::emu::warp_exchange(m, v, "__shfl_xor_sync", loc, [=](int l) {
    int s = l ^ x;
    return s >= (l & ~(w - 1)) + w ? l : s;
  });
}
template <class T>
__forceinline__ T __shfl_down_sync(unsigned m, T v, unsigned d, int w = 32, SIMT_LOC) {
  return simt::emu::warp_exchange(m, v, "__shfl_down_sync", loc,
                                  [=](int l) { return (l & (w - 1)) + int(d) < w ? l + int(d) : l; });
}
template <class T>
__forceinline__ T __shfl_up_sync(unsigned m, T v, unsigned d, int w = 32, SIMT_LOC) {
  return simt::emu::warp_exchange(m, v, "__shfl_up_sync", loc,
                                  [=](int l) { return (l & (w - 1)) >= int(d) ? l - int(d) : l; });
}
inline unsigned __ballot_sync(unsigned m, int p, SIMT_LOC) {
  auto& b = *simt::emu::B;
  auto& o = b.op(m);
  unsigned ph = o.gen & 1, lv = b.warps[b.cur->tid / 32].live, r = 0;
  o.buf[ph][b.cur->tid & 31][0] = p != 0;
  b.warp_wait(o, "__ballot_sync", loc);
  for (int l = 0; l < 32; ++l)
    if (m & lv & (1u << l)) r |= unsigned(o.buf[ph][l][0]) << l;
  return r;
}
inline int __any_sync(unsigned m, int p, SIMT_LOC) { return __ballot_sync(m, p, loc) != 0; }
inline int __all_sync(unsigned m, int p, SIMT_LOC) { return __ballot_sync(m, !p, loc) == 0; }
inline void __threadfence() { simt::emu::race_fence(); }
inline void __threadfence_block() {}

// ---- atomics (relaxed; safe when blocks run on several OS threads) ----------
template <class T, class F>
SIMT_NOTSAN inline T simt_rmw(T* p, F f) {
  using U =
      std::conditional_t<sizeof(T) == 8, uint64_t, std::conditional_t<sizeof(T) == 4, uint32_t, uint16_t>>;
  simt::emu::race_atomic(p, sizeof(T));
  U* q = reinterpret_cast<U*>(p);
  U o = __atomic_load_n(q, __ATOMIC_RELAXED);
  for (;;) {
    U n = std::bit_cast<U>(T(f(std::bit_cast<T>(o))));
    if (__atomic_compare_exchange_n(q, &o, n, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
      return std::bit_cast<T>(o);
  }
}
template <class T>
T atomicAdd(T* p, std::type_identity_t<T> v) {
  return simt_rmw(p, [=](T o) { return o + v; });
}
template <class T>
T atomicMax(T* p, std::type_identity_t<T> v) {
  return simt_rmw(p, [=](T o) { return o < v ? v : o; });
}
template <class T>
T atomicMin(T* p, std::type_identity_t<T> v) {
  return simt_rmw(p, [=](T o) { return v < o ? v : o; });
}
template <class T>
T atomicExch(T* p, std::type_identity_t<T> v) {
  return simt_rmw(p, [=](T) { return v; });
}
template <class T>
T atomicCAS(T* p, std::type_identity_t<T> c, std::type_identity_t<T> v) {
  return simt_rmw(p, [=](T o) { return o == c ? v : o; });
}

// ---- math and bit intrinsics ------------------------------------------------
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __saturatef(float x) { return std::fmin(std::fmax(x, 0.f), 1.f); }
inline unsigned __float_as_uint(float f) { return std::bit_cast<unsigned>(f); }
inline float __uint_as_float(unsigned u) { return std::bit_cast<float>(u); }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(unsigned(x)); }
inline int __ffs(int x) { return x ? std::countr_zero(unsigned(x)) + 1 : 0; }
template <class T>
inline T __ldg(const T* p) {
  return *p;
}
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline float min(float a, float b) { return std::fmin(a, b); }
inline float max(float a, float b) { return std::fmax(a, b); }
using std::fmaf;
using std::fmaxf;
using std::fminf;
#endif
