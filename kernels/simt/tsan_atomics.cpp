// The atomic operations that gcc's instrumentation calls out for. They come from host code in the kernels'
// files, such as reference counts; a kernel's own atomics go through atomics.h. Hence no check: only the
// operation itself, sequentially consistent whatever order was asked for.
#include <cstdint>

#define SIMT_ATOMIC_FETCH(bits, operation)                                                      \
  uint##bits##_t simt_tsan_##operation##bits(volatile void* p, uint##bits##_t v,                \
                                             int) asm("__tsan_atomic" #bits "_" #operation);    \
  uint##bits##_t simt_tsan_##operation##bits(volatile void* p, uint##bits##_t v, int) {         \
    return __atomic_##operation(static_cast<volatile uint##bits##_t*>(p), v, __ATOMIC_SEQ_CST); \
  }

#define SIMT_ATOMIC_EXCHANGE(bits, strength)                                                               \
  int simt_tsan_exchange_##strength##bits(volatile void* p, void* expected, uint##bits##_t v, int,         \
                                          int) asm("__tsan_atomic" #bits "_compare_exchange_" #strength);  \
  int simt_tsan_exchange_##strength##bits(volatile void* p, void* expected, uint##bits##_t v, int, int) {  \
    return __atomic_compare_exchange_n(static_cast<volatile uint##bits##_t*>(p),                           \
                                       static_cast<uint##bits##_t*>(expected), v, false, __ATOMIC_SEQ_CST, \
                                       __ATOMIC_SEQ_CST);                                                  \
  }

#define SIMT_ATOMICS(bits)                                                                                 \
  uint##bits##_t simt_tsan_load##bits(const volatile void* p, int) asm("__tsan_atomic" #bits "_load");     \
  uint##bits##_t simt_tsan_load##bits(const volatile void* p, int) {                                       \
    return __atomic_load_n(static_cast<const volatile uint##bits##_t*>(p), __ATOMIC_SEQ_CST);              \
  }                                                                                                        \
  void simt_tsan_store##bits(volatile void* p, uint##bits##_t v, int) asm("__tsan_atomic" #bits "_store"); \
  void simt_tsan_store##bits(volatile void* p, uint##bits##_t v, int) {                                    \
    __atomic_store_n(static_cast<volatile uint##bits##_t*>(p), v, __ATOMIC_SEQ_CST);                       \
  }                                                                                                        \
  uint##bits##_t simt_tsan_exchange##bits(volatile void* p, uint##bits##_t v,                              \
                                          int) asm("__tsan_atomic" #bits "_exchange");                     \
  uint##bits##_t simt_tsan_exchange##bits(volatile void* p, uint##bits##_t v, int) {                       \
    return __atomic_exchange_n(static_cast<volatile uint##bits##_t*>(p), v, __ATOMIC_SEQ_CST);             \
  }                                                                                                        \
  SIMT_ATOMIC_FETCH(bits, fetch_add)                                                                       \
  SIMT_ATOMIC_FETCH(bits, fetch_sub)                                                                       \
  SIMT_ATOMIC_FETCH(bits, fetch_and)                                                                       \
  SIMT_ATOMIC_FETCH(bits, fetch_or)                                                                        \
  SIMT_ATOMIC_FETCH(bits, fetch_xor)                                                                       \
  SIMT_ATOMIC_EXCHANGE(bits, strong)                                                                       \
  SIMT_ATOMIC_EXCHANGE(bits, weak)

SIMT_ATOMICS(8)
SIMT_ATOMICS(16)
SIMT_ATOMICS(32)
SIMT_ATOMICS(64)

void simt_tsan_thread_fence(int) asm("__tsan_atomic_thread_fence");
void simt_tsan_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
void simt_tsan_signal_fence(int) asm("__tsan_atomic_signal_fence");
void simt_tsan_signal_fence(int) { __atomic_signal_fence(__ATOMIC_SEQ_CST); }
