// What a device tells about the kernels it ran: filled in by the cuda plug-in where CUPTI and NVTX are there.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "engine/core/device.h"

namespace plume {

struct KernelActivity {
  std::string kernel;  // demangled name
  int64_t call =
      -1;  // what was pushed when it was launched, or recorded into the graph that ran it; -1: none
  double start = 0, seconds = 0;  // start since start()
};

struct DeviceTracer {
  // Between the two every kernel, copy and fill that runs is noted. stop() waits for the device.
  void (*start)() = nullptr;
  std::vector<KernelActivity> (*stop)() = nullptr;
  // What this thread launches, or records into a graph, between the two belongs to `call`. May be nested.
  void (*push_call)(int64_t call) = nullptr;
  void (*pop_call)() = nullptr;
  // Named ranges for Nsight Systems and Compute.
  void (*push_range)(const char* name) = nullptr;
  void (*pop_range)() = nullptr;
  // Why kernels are not timed, in one line; empty where they are, or where there is nothing to say.
  std::string missing;

  bool times_kernels() const { return start != nullptr; }
  bool names_ranges() const { return push_range != nullptr; }
};

// `open` is called when the tracer is first asked for, since it may load libraries.
void register_device_tracer(Device device, DeviceTracer (*open)());
const DeviceTracer& device_tracer(Device device);  // all null when the device has none

}  // namespace plume
