// What the emulator tells the race detector. Empty unless the kernels are built with the race check
// (PLUME_RACE); plain loads and stores reach the detector through the compiler's instrumentation.
#pragma once

namespace simt::emu {
#if defined(PLUME_RACE)
void race_launch();
void race_access(const void* address, unsigned bytes, bool write, void* caller);
void race_atomic(void* address, unsigned bytes, void* caller);
void race_fence();
#else
inline void race_launch() {}
inline void race_access(const void*, unsigned, bool, void*) {}
inline void race_atomic(void*, unsigned, void*) {}
inline void race_fence() {}
#endif
}  // namespace simt::emu
