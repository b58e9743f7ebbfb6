// How a test talks to the stand-in (README.md) that its process has opened, and what the environment sets.
//
//   PLUME_STAND_IN_FAIL_CALL=N    the N-th call of the driver fails (counted from 1)
//   PLUME_STAND_IN_FAIL_NAMED=X   the first call of that name fails: ncclAllReduce
//   PLUME_STAND_IN_FAIL_MALLOC=N  the N-th allocation of device memory and all after it fail
//   PLUME_STAND_IN_MEMORY=MIB     what the device holds (4096)
//   PLUME_STAND_IN_TRACER=0       CUPTI does not open; other numbers: enabling an activity returns that error
//   PLUME_STAND_IN_KERNELS=0      the build holds none for this device
//   PLUME_STAND_IN_GUARD=0        the host may touch device memory
//   PLUME_STAND_IN_LOG=1          counts to standard error when the process ends
#pragma once
#include <array>
#include <cstdint>

namespace plume::stand_in {

struct Counts {
  uint64_t calls = 0;  // of the driver, launches included
  uint64_t launches = 0, replays = 0, copies = 0, allocations = 0, frees = 0;
  std::array<uint64_t, 3> products{};  // by cuBLASLt, by the places in which it proposes its algorithms
  uint64_t waits = 0;                  // of the host, for work that was not done
  uint64_t recorded = 0;               // pieces of work in the graphs made so far
  uint64_t remarks = 0;  // mistakes that a driver would not refuse; each a line on standard error
};

struct Control {
  Counts (*counts)();
  void (*reset)();                  // counts begin anew, nothing fails
  void (*fail_call)(uint64_t n);    // the n-th from now on; 0: none
  void (*fail_malloc)(uint64_t n);  // the n-th from now on and all after it; 0: none
  const char* (*last_failed)();     // name of the call that was made to fail; empty: none was
};

}  // namespace plume::stand_in

// Exported by the plug-in.
extern "C" const plume::stand_in::Control* plume_stand_in_control();
