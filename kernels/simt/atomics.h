// Atomic operations. Relaxed, as on the GPU, and real ones: host threads may run launches on the same memory.
#pragma once
#include <bit>
#include <cstdint>
#include <type_traits>

#include "kernels/simt/counting.h"
#include "kernels/simt/race.h"

#define SIMT_NO_TSAN __attribute__((no_sanitize("thread")))

namespace simt::emu {

// Not inlined under the race check and the counters: the instrumentation must see one atomic access, not a
// load and an exchange.
template <class T, class F>
#if defined(PLUME_RACE)
__attribute__((noinline))
#elif defined(PLUME_COUNTERS)
__attribute__((noinline))
#endif
SIMT_NO_TSAN SIMT_NOT_INSTRUMENTED inline T
read_modify_write(T* address, F change) {
  using Word =
      std::conditional_t<sizeof(T) == 8, uint64_t, std::conditional_t<sizeof(T) == 4, uint32_t, uint16_t>>;
  static_assert(sizeof(T) == sizeof(Word));
  race_atomic(address, sizeof(T), __builtin_return_address(0));
  count_atomic(address, sizeof(T), __builtin_return_address(0));
  Word* word = reinterpret_cast<Word*>(address);
  Word old = __atomic_load_n(word, __ATOMIC_RELAXED);
  for (;;) {
    const Word changed = std::bit_cast<Word>(T(change(std::bit_cast<T>(old))));
    if (__atomic_compare_exchange_n(word, &old, changed, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
      return std::bit_cast<T>(old);
    }
  }
}

}  // namespace simt::emu

template <class T>
T atomicAdd(T* p, std::type_identity_t<T> v) {
  return simt::emu::read_modify_write(p, [=](T old) { return old + v; });
}
template <class T>
T atomicSub(T* p, std::type_identity_t<T> v) {
  return simt::emu::read_modify_write(p, [=](T old) { return old - v; });
}
template <class T>
T atomicMax(T* p, std::type_identity_t<T> v) {
  return simt::emu::read_modify_write(p, [=](T old) { return old < v ? v : old; });
}
template <class T>
T atomicMin(T* p, std::type_identity_t<T> v) {
  return simt::emu::read_modify_write(p, [=](T old) { return v < old ? v : old; });
}
template <class T>
T atomicAnd(T* p, std::type_identity_t<T> v) {
  return simt::emu::read_modify_write(p, [=](T old) { return old & v; });
}
template <class T>
T atomicOr(T* p, std::type_identity_t<T> v) {
  return simt::emu::read_modify_write(p, [=](T old) { return old | v; });
}
template <class T>
T atomicExch(T* p, std::type_identity_t<T> v) {
  return simt::emu::read_modify_write(p, [=](T) { return v; });
}
template <class T>
T atomicCAS(T* p, std::type_identity_t<T> expected, std::type_identity_t<T> v) {
  return simt::emu::read_modify_write(p, [=](T old) { return old == expected ? v : old; });
}
// Counts up to limit, then starts again at 0: the ticket of a last-block reduction resets itself.
inline unsigned atomicInc(unsigned* p, unsigned limit) {
  return simt::emu::read_modify_write(p, [=](unsigned old) { return old >= limit ? 0u : old + 1; });
}
