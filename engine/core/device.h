// The three devices and what each must be able to do with memory.
//
// cpu: oneDNN and plain loops. cuda: the GPU; its column is a plug-in that is opened only where a driver is
// present. simt: the hand-written kernels executed thread by thread on the CPU (see kernels/simt).
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace plume {

enum class Device : uint8_t { cpu, cuda, simt };
inline constexpr int kDeviceCount = 3;

const char* name(Device device);
inline std::string to_string(Device device) { return name(device); }
Device parse_device(std::string_view text);  // "cpu", "cuda", "simt"; throws usage

// cpu and simt memory is plain host memory.
constexpr bool is_host(Device device) { return device != Device::cuda; }

// Filled once per device: host devices by engine/memory, cuda by its plug-in. `stream` is the context's
// stream (null on hosts); copies and fills are ordered on it. copy() takes one pointer of this device, or
// two.
struct DeviceBackend {
  void* (*allocate)(size_t bytes, const char* tag);  // 256-byte aligned; throws a resource error
  void (*release)(void* pointer);
  void (*copy)(void* to, const void* from, size_t bytes, void* stream);
  void (*fill)(void* to, int byte, size_t bytes, void* stream);
  void (*synchronize)(void* stream);
  std::string (*describe)();  // "NVIDIA H100 80GB HBM3 (sm_90)", "AMD EPYC, 2 threads"

  std::string (*libraries)() = nullptr;  // with versions: "CUDA 12.4, driver for CUDA 12.6, cuDNN 9.1.0"

  // Only where work can be recorded and replayed (see graph.h); all null elsewhere. What is launched on the
  // stream between the first two is recorded, not run.
  void (*begin_capture)(void* stream) = nullptr;
  void* (*end_capture)(void* stream) = nullptr;     // an executable graph
  void (*abandon_capture)(void* stream) = nullptr;  // after an error; never throws
  void (*launch)(void* graph, void* stream) = nullptr;
  void (*destroy)(void* graph) = nullptr;
  // Only where copies run beside the stream's work (see memory/staging.h); all null elsewhere. An event
  // stands for all that its stream has been given so far.
  void* (*side_stream)() = nullptr;  // the process's second stream
  std::shared_ptr<void> (*record_event)(void* stream) = nullptr;
  void (*wait_event)(void* stream, void* event) = nullptr;  // what the stream is given next waits for it
  void (*await_event)(void* event) = nullptr;               // the host waits for it
  // Keeps what is freed from now on out of other hands until the handle is gone (see allocator.h).
  std::shared_ptr<void> (*begin_hold)() = nullptr;
  void (*end_hold)() = nullptr;

  // About the device; null where there is nothing to say.
  size_t (*available_memory)() = nullptr;  // bytes that nobody has
  size_t (*cache_bytes)() = nullptr;       // of its last cache before memory
  std::string (*bus_id)() = nullptr;       // "0000:3b:00.0", by which other libraries know it
};

void register_backend(Device device, const DeviceBackend& backend);
const DeviceBackend& backend(Device device);  // opens the cuda plug-in on first use; throws a resource error

// True when a GPU answers. The first call looks for the driver and opens the plug-in; later calls are free.
bool cuda_available();
// Why cuda_available() is false, in one line.
std::string cuda_unavailable_reason();
// cuda when a GPU answers, cpu otherwise.
Device default_device();

}  // namespace plume
