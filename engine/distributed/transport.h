// What carries data between ranks, as plug-ins supply it: MPI for host memory, NCCL for a GPU's.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "engine/core/device.h"
#include "engine/core/dtype.h"

namespace plume {

enum class Reduction : uint8_t { sum, max };

// Host memory. All calls but abort() come from the thread that opened the transport, block until their part
// is done, and throw a resource error when the library reports one.
struct HostTransport {
  enum class Element : uint8_t { f32, f64, i64 };
  int rank = 0, world = 1;
  void (*all_reduce)(void* data, size_t count, Element, Reduction) = nullptr;  // in place
  void (*all_gather)(const void* mine, void* all, size_t bytes_of_one) = nullptr;
  void (*broadcast)(void* data, size_t bytes, int root) = nullptr;
  void (*abort)(int code) = nullptr;  // ends all ranks
  void (*close)() = nullptr;
};

// What libplume_mpi.so exports: fills `transport`; returns null, or the reason why it cannot.
using OpenHostTransport = const char*(HostTransport* transport);
inline constexpr const char* kOpenHostTransport = "plume_mpi_open";

// Memory of a device. Work is ordered on the context's stream, as kernels are. f32 and i64. Open until the
// process ends.
struct DeviceTransport {
  // Rank 0 makes an id, which then reaches all ranks; all open with it.
  std::string (*make_id)();
  void (*open)(const std::string& id, int rank, int world);
  void (*all_reduce)(void* data, size_t count, DType, Reduction);
  void (*all_gather)(const void* mine, void* all, size_t bytes_of_one);
  void (*broadcast)(void* data, size_t bytes, int root);
  // The same beside the context's stream: behind what is queued there now, before what is queued after
  // wait(), which does not wait on the host. Each ticket is waited for once.
  void* (*start_all_reduce)(void* data, size_t count, DType, Reduction);
  void (*wait)(void* ticket);
};

// Filled by the device's plug-in; null where the build has none.
void register_device_transport(Device device, const DeviceTransport* transport);
const DeviceTransport* device_transport(Device device);

}  // namespace plume
