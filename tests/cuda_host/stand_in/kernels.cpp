// The kernels: those of the simt device, given to streams. Nothing is compiled a second time.
#include <cstdio>
#include <cstdlib>
#include <mutex>

#include "engine/core/kernel_slot.h"
#include "kernels/simt/emulator.h"
#include "kernels/simt/kernel_name.h"
#include "tests/cuda_host/stand_in/machine.h"

namespace plume::stand_in {
namespace {

void launch(simt::emu::PendingLaunch pending) {
  Machine& machine = Machine::get();
  const std::lock_guard lock(machine.mutex());
  const std::string name(simt::kernel_name(pending.pretty_name));
  Status status = machine.enter("launch");
  if (status == kSuccess) {
    ++machine.counts.launches;
    Work work{name, [pending] { pending.run(); }, {}};
    status = machine.give(static_cast<Stream*>(pending.config.stream), std::move(work));
  }
  if (status != kSuccess) {
    machine.clear_error();
    fail(ErrorKind::resource, "{}: launch: error {}", name, int(status));
  }
}

struct AtEnd {
  ~AtEnd() {
    const char* const wanted = std::getenv("PLUME_STAND_IN_LOG");
    if (!wanted || *wanted == '0') return;
    const Counts& c = Machine::get().counts;
    const auto n = [](uint64_t count) { return static_cast<unsigned long long>(count); };
    std::fprintf(stderr,
                 "counts of the stand-in: %llu calls, %llu launches, %llu replays, %llu copies, %llu waits, "
                 "%llu allocations, %llu frees, %llu recorded, %llu remarks\n",
                 n(c.calls), n(c.launches), n(c.replays), n(c.copies), n(c.waits), n(c.allocations),
                 n(c.frees), n(c.recorded), n(c.remarks));
  }
} at_end;

const bool adopted = [] {
  for (KernelSlotBase* slot : all_slots()) slot->adopt(Device::cuda, Device::simt);
  simt::emu::set_launch_queue(launch);
  return true;
}();

constexpr Control kControl = {
    [] { return Machine::get().counts; },
    [] {
      Machine& m = Machine::get();
      m.counts = {};
      m.fail_call = m.fail_malloc = 0;
      m.last_failed.clear();
    },
    [](uint64_t n) { Machine::get().fail_call = n ? Machine::get().counts.calls + n : 0; },
    [](uint64_t n) { Machine::get().fail_malloc = n ? Machine::get().counts.allocations + n : 0; },
    [] { return Machine::get().last_failed.c_str(); },
};

}  // namespace
}  // namespace plume::stand_in

// The real plug-in's is in kernels/probe.cu.
extern "C" const void* plume_cuda_probe_kernel() { return &plume::stand_in::kControl; }
extern "C" const plume::stand_in::Control* plume_stand_in_control() { return &plume::stand_in::kControl; }
