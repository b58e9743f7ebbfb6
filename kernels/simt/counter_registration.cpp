// Tells the profiler what the emulator counts: launches, and in a build with counters what they do to memory.
#include "engine/profiler/kernel_counts.h"
#include "kernels/simt/emulator.h"

#if defined(PLUME_COUNTERS)
#include "kernels/simt/count_trace.h"
#endif

namespace simt::emu {
namespace {

#if defined(PLUME_COUNTERS)
void begin(const plume::CountOptions& options) { counter().begin(options); }
std::vector<plume::CountedLaunch> end() { return counter().end(); }
#else
constexpr void (*begin)(const plume::CountOptions&) = nullptr;
constexpr std::vector<plume::CountedLaunch> (*end)() = nullptr;
#endif

[[maybe_unused]] const bool registered = [] {
  plume::register_kernel_counter(plume::Device::simt, {launches_so_far, begin, end});
  return true;
}();

}  // namespace
}  // namespace simt::emu
