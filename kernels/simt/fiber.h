// Fibers: the stacks on which emulated threads wait.
//
// A switch costs 9 ns with the hand-written x86-64 code and about 230 ns with <ucontext.h>, which serves all
// other processors (and PLUME_SIMT_UCONTEXT, so that it stays tested).
#pragma once
#include <cstddef>

#include "kernels/simt/builtins.h"

#if defined(__x86_64__) && !defined(PLUME_SIMT_UCONTEXT)
#define SIMT_FAST_SWITCH 1
#else
#define SIMT_FAST_SWITCH 0
#include <ucontext.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#define SIMT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIMT_ASAN 1
#endif
#endif
#ifndef SIMT_ASAN
#define SIMT_ASAN 0
#endif
#if SIMT_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

namespace simt::emu {

// A place in the source. clang 14 with libstdc++ 12 has no std::source_location.
struct Location {
  const char* file;
  int line;
  static constexpr Location current(const char* f = __builtin_FILE(), int l = __builtin_LINE()) {
    return {f, l};
  }
};

struct Fiber {
  void* stack_pointer = nullptr;
  char* stack = nullptr;  // lowest address
  size_t stack_bytes = 0;
  void* fake_stack = nullptr;  // the address sanitizer's
#if !SIMT_FAST_SWITCH
  ucontext_t* context = nullptr;
#endif
  unsigned thread = 0;  // number within the block
  uint3 index{};        // its threadIdx
  const char* doing = "";
  Location where{"", 0};
};

// Gives the fiber a guarded stack; its first switch calls entry(). `number` staggers the stack tops, which
// would otherwise all fall into the same cache sets.
void create_fiber(Fiber& fiber, unsigned number, size_t stack_bytes, void (*entry)());
void destroy_fiber(Fiber& fiber);
// Describes the stack that the caller runs on.
void adopt_stack(Fiber& fiber);

#if SIMT_FAST_SWITCH
extern "C" void plume_simt_switch(void** save, void* to);
#endif

inline __attribute__((always_inline)) void switch_fiber(Fiber& from, Fiber& to) {
#if SIMT_ASAN
  __sanitizer_start_switch_fiber(&from.fake_stack, to.stack, to.stack_bytes);
#endif
#if SIMT_FAST_SWITCH
  plume_simt_switch(&from.stack_pointer, to.stack_pointer);
#else
  swapcontext(from.context, to.context);
#endif
#if SIMT_ASAN
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

}  // namespace simt::emu
