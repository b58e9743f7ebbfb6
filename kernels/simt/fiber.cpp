#include "kernels/simt/fiber.h"

#include <pthread.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#if SIMT_FAST_SWITCH
// Saves what the System V ABI calls preserved, swaps the stacks, restores and jumps to the saved return
// address. The floating-point control words are not switched: kernels do not change them.
asm(R"(
.pushsection .text
.globl plume_simt_switch
.type plume_simt_switch,@function
plume_simt_switch:
  leaq -48(%rsp), %rsp
  movq %r15, (%rsp)
  movq %r14, 8(%rsp)
  movq %r13, 16(%rsp)
  movq %r12, 24(%rsp)
  movq %rbx, 32(%rsp)
  movq %rbp, 40(%rsp)
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  movq 48(%rsp), %r8
  movq (%rsp), %r15
  movq 8(%rsp), %r14
  movq 16(%rsp), %r13
  movq 24(%rsp), %r12
  movq 32(%rsp), %rbx
  movq 40(%rsp), %rbp
  leaq 56(%rsp), %rsp
  jmp *%r8
.size plume_simt_switch,.-plume_simt_switch
.popsection
)");
#endif

namespace simt::emu {
namespace {
constexpr size_t kGuard = 4096;
}

void create_fiber(Fiber& fiber, unsigned number, size_t stack_bytes, void (*entry)()) {
  void* memory =
      mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, kGuard, PROT_NONE) != 0) {
    std::perror("simt: stack of an emulated thread");
    std::abort();
  }
  fiber.stack = static_cast<char*>(memory);
  fiber.stack_bytes = stack_bytes;
  const size_t usable = stack_bytes - (number % 48) * 320;
#if SIMT_FAST_SWITCH
  auto* top =
      reinterpret_cast<uintptr_t*>(reinterpret_cast<uintptr_t>(fiber.stack + usable - 64) & ~uintptr_t(15));
  *--top = 0;  // entry's own return address: it never returns
  *--top = reinterpret_cast<uintptr_t>(entry);
  for (int i = 0; i < 6; ++i) *--top = 0;
  fiber.stack_pointer = top;
#else
  fiber.context = new ucontext_t{};
  getcontext(fiber.context);
  fiber.context->uc_stack.ss_sp = fiber.stack;
  fiber.context->uc_stack.ss_size = usable & ~size_t(15);
  fiber.context->uc_link = nullptr;
  makecontext(fiber.context, entry, 0);
#endif
}

void destroy_fiber(Fiber& fiber) {
  if (fiber.stack) munmap(fiber.stack, fiber.stack_bytes);
#if !SIMT_FAST_SWITCH
  delete fiber.context;
#endif
}

void adopt_stack(Fiber& fiber) {
  pthread_attr_t attributes;
  void* lowest = nullptr;
  pthread_getattr_np(pthread_self(), &attributes);
  pthread_attr_getstack(&attributes, &lowest, &fiber.stack_bytes);
  pthread_attr_destroy(&attributes);
  fiber.stack = static_cast<char*>(lowest);
#if !SIMT_FAST_SWITCH
  fiber.context = new ucontext_t{};
#endif
}

}  // namespace simt::emu
