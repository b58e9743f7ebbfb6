// What the emulator and the access layer tell the counters. Empty unless the kernels are built to be counted
// (PLUME_COUNTERS): plain loads, stores and branches then reach count_trace.cpp through the compiler's
// instrumentation, and the rest through here.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/simt/fiber.h"

namespace simt {
struct Launch;
}

// For what runs inside a kernel and is none of it. Not inlined, or it would be instrumented all the same.
#if !defined(PLUME_COUNTERS)
#define SIMT_NOT_INSTRUMENTED
#elif defined(__clang__)
#define SIMT_NOT_INSTRUMENTED __attribute__((no_sanitize("thread", "coverage")))
#else
#define SIMT_NOT_INSTRUMENTED __attribute__((no_sanitize("thread"), no_sanitize_coverage))
#endif

namespace simt::emu {

enum class WarpKind : uint8_t;

#if defined(PLUME_COUNTERS)
void count_launch(const Launch& config, const char* pretty_name);
bool count_block(uint64_t block, uint64_t blocks);  // is it to be run?
void count_block_end(size_t shared_bytes);
void count_thread_begin(unsigned thread);
void count_thread(unsigned thread);  // what follows belongs to this thread, again
void count_nothing();                // what follows belongs to none: the emulator's own code
void count_barrier(Location where);
void count_barrier_release();  // all threads of the block have come
void count_warp_operation(WarpKind kind, Location where);
void count_ldmatrix(const void* row, int matrices, Location where);
void count_atomic(const void* address, unsigned bytes, void* caller);
// cp.async; a wait that ends when `done` of the `all` groups on their way have come.
void count_async_copy(const void* to, const void* from, unsigned bytes, unsigned valid, bool cached,
                      Location where, void* caller);
void count_async_wait(unsigned done, unsigned all, Location where, void* caller);
// One access of the access layer. Nothing, where the address is a variable of the thread's own.
void count_access(const void* address, unsigned bytes, bool write, Location where, void* caller);
#else
inline void count_launch(const Launch&, const char*) {}
constexpr bool count_block(uint64_t, uint64_t) { return true; }
inline void count_block_end(size_t) {}
inline void count_thread_begin(unsigned) {}
inline void count_thread(unsigned) {}
inline void count_nothing() {}
inline void count_barrier(Location) {}
inline void count_barrier_release() {}
inline void count_warp_operation(WarpKind, Location) {}
inline void count_ldmatrix(const void*, int, Location) {}
inline void count_atomic(const void*, unsigned, void*) {}
inline void count_async_copy(const void*, const void*, unsigned, unsigned, bool, Location, void*) {}
inline void count_async_wait(unsigned, unsigned, Location, void*) {}
#endif

#if defined(PLUME_COUNTERS)
// Copies a word in one access of the calling lane. Called, not inlined, and without instrumentation: the
// compiler would split it.
template <class Word>
__attribute__((noinline)) SIMT_NOT_INSTRUMENTED void counted_move(void* to, const void* from,
                                                                  Location where = {"", 0}) {
  count_access(from, sizeof(Word), false, where, __builtin_return_address(0));
  count_access(to, sizeof(Word), true, where, __builtin_return_address(0));
  __builtin_memcpy(to, from, sizeof(Word));
}
#endif

}  // namespace simt::emu
