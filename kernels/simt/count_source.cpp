// Offers the counters to the profiler.
#include "kernels/simt/count_trace.h"

namespace simt::emu {
namespace {

void begin(const plume::CountOptions& options) { counter().begin(options); }
std::vector<plume::CountedLaunch> end() { return counter().end(); }
size_t launches() { return counter().launches(); }

const bool registered = [] {
  plume::register_kernel_counter(plume::Device::simt, {begin, end, launches});
  return true;
}();

}  // namespace
}  // namespace simt::emu
