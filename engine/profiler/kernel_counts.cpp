#include "engine/profiler/kernel_counts.h"

namespace plume {
namespace {

constexpr double KernelCounts::*kFields[] = {&KernelCounts::steps,
                                             &KernelCounts::step_lanes,
                                             &KernelCounts::loads,
                                             &KernelCounts::stores,
                                             &KernelCounts::global_lanes,
                                             &KernelCounts::global_bytes,
                                             &KernelCounts::sectors,
                                             &KernelCounts::ideal_sectors,
                                             &KernelCounts::lines,
                                             &KernelCounts::shared_loads,
                                             &KernelCounts::shared_stores,
                                             &KernelCounts::shared_lanes,
                                             &KernelCounts::shared_bytes,
                                             &KernelCounts::wavefronts,
                                             &KernelCounts::ideal_wavefronts,
                                             &KernelCounts::l2_bytes,
                                             &KernelCounts::dram_read_bytes,
                                             &KernelCounts::dram_written_bytes,
                                             &KernelCounts::barriers,
                                             &KernelCounts::shuffles,
                                             &KernelCounts::mma,
                                             &KernelCounts::ldmatrix,
                                             &KernelCounts::atomics,
                                             &KernelCounts::atomic_lanes,
                                             &KernelCounts::atomic_turns,
                                             &KernelCounts::waits,
                                             &KernelCounts::waited_bytes,
                                             &KernelCounts::instructions,
                                             &KernelCounts::global_lane_bytes,
                                             &KernelCounts::shared_lane_bytes};
static_assert(sizeof(KernelCounts) == sizeof kFields / sizeof *kFields * sizeof(double),
              "a field is missing");

// A function-local static: columns register while they are loaded.
KernelCounter& entry(Device device) {
  static KernelCounter counters[kDeviceCount];
  return counters[size_t(device)];
}

}  // namespace

const char* name(Pipe pipe) {
  constexpr const char* kNames[kPipes] = {"fma",    "alu",  "special", "load/store",
                                          "tensor", "fp64", "uniform", "control"};
  return kNames[size_t(pipe)];
}

KernelCounts& KernelCounts::operator+=(const KernelCounts& other) {
  for (const auto field : kFields) this->*field += other.*field;
  return *this;
}

KernelCounts& KernelCounts::operator*=(double factor) {
  for (const auto field : kFields) this->*field *= factor;
  return *this;
}

KernelCounts CountedLaunch::scaled_counts() const {
  KernelCounts all = counts;
  if (counted_blocks > 0) all *= double(blocks) / double(counted_blocks);
  return all;
}

void register_kernel_counter(Device device, const KernelCounter& counter) { entry(device) = counter; }
const KernelCounter& kernel_counter(Device device) { return entry(device); }

}  // namespace plume
