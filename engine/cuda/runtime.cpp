// The cuda device: memory, copies, the stream, graph capture. Opened by engine/core/device.cpp.
#include <cublasLt.h>
#include <cudnn_graph.h>

#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/context.h"
#include "engine/cuda/check.h"
#include "engine/distributed/launch.h"
#include "engine/memory/allocator.h"

extern "C" const void* plume_cuda_probe_kernel();  // kernels/probe.cu

namespace plume::cuda {
namespace {

constexpr int kOldestMajor = 8;  // Ampere: bf16 and TF32 tensor cores, cp.async

cudaStream_t as_stream(void* stream) { return static_cast<cudaStream_t>(stream); }

// Never destroyed: tensors with static lifetime give their memory back after main.
CachingAllocator& allocator() {
  static auto* device_memory = new CachingAllocator({
      [](size_t bytes) {
        void* pointer = nullptr;
        if (cudaMalloc(&pointer, bytes) == cudaSuccess) return pointer;
        cudaGetLastError();
        return static_cast<void*>(nullptr);
      },
      // cudaFree waits until the device is done with the block.
      [](void* pointer) { cudaFree(pointer); },
      "device",
  });
  return *device_memory;
}

CachingAllocator& pinned() {
  static auto* pinned_memory = new CachingAllocator({
      [](size_t bytes) {
        void* pointer = nullptr;
        if (cudaHostAlloc(&pointer, bytes, cudaHostAllocDefault) == cudaSuccess) return pointer;
        cudaGetLastError();
        return static_cast<void*>(nullptr);
      },
      [](void* pointer) { cudaFreeHost(pointer); },
      "pinned host",
  });
  return *pinned_memory;
}

void copy(void* to, const void* from, size_t bytes, void* stream) {
  // The addresses tell the runtime where each side lives.
  if (bytes) PLUME_CUDA(cudaMemcpyAsync, to, from, bytes, cudaMemcpyDefault, as_stream(stream));
}

void fill(void* to, int byte, size_t bytes, void* stream) {
  if (bytes) PLUME_CUDA(cudaMemsetAsync, to, byte, bytes, as_stream(stream));
}

std::string describe() {
  cudaDeviceProp properties{};
  PLUME_CUDA(cudaGetDeviceProperties, &properties, 0);
  return message("{} (sm_{}{})", std::string(properties.name), properties.major, properties.minor);
}

size_t available_memory() {
  size_t available = 0, total = 0;
  PLUME_CUDA(cudaMemGetInfo, &available, &total);
  return available;
}

size_t cache_bytes() {
  int bytes = 0;
  PLUME_CUDA(cudaDeviceGetAttribute, &bytes, cudaDevAttrL2CacheSize, 0);
  return size_t(bytes);
}

std::string bus_id() {
  char text[32] = "";
  PLUME_CUDA(cudaDeviceGetPCIBusId, text, int(sizeof text), 0);
  return text;
}

std::string version(int number) { return message("{}.{}", number / 1000, number % 1000 / 10); }

std::string libraries() {
  int driver = 0, runtime = 0;
  PLUME_CUDA(cudaDriverGetVersion, &driver);
  PLUME_CUDA(cudaRuntimeGetVersion, &runtime);
  return message("CUDA {}, driver for CUDA {}, cuDNN {}, cuBLASLt {}", version(runtime), version(driver),
                 cudnnGetVersion(), cublasLtGetVersion());
}

void begin_capture(void* stream) {
  // Relaxed: the step may reach a size for the first time and call cudaMalloc.
  PLUME_CUDA(cudaStreamBeginCapture, as_stream(stream), cudaStreamCaptureModeRelaxed);
}

void* end_capture(void* stream) {
  cudaGraph_t graph = nullptr;
  PLUME_CUDA(cudaStreamEndCapture, as_stream(stream), &graph);
  cudaGraphExec_t executable = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  check("cudaGraphInstantiate", status);
  return executable;
}

void abandon_capture(void* stream) {
  cudaGraph_t graph = nullptr;
  cudaStreamEndCapture(as_stream(stream), &graph);
  if (graph) cudaGraphDestroy(graph);
  cudaGetLastError();
}

void* side_stream() {
  static cudaStream_t stream = [] {
    cudaStream_t made = nullptr;
    PLUME_CUDA(cudaStreamCreateWithFlags, &made, cudaStreamNonBlocking);
    return made;
  }();
  return stream;
}

std::shared_ptr<void> record_event(void* stream) {
  cudaEvent_t event = nullptr;
  PLUME_CUDA(cudaEventCreateWithFlags, &event, cudaEventDisableTiming);
  // Destroying an event that lies ahead is allowed.
  std::shared_ptr<void> owner(event, [](void* e) { cudaEventDestroy(static_cast<cudaEvent_t>(e)); });
  PLUME_CUDA(cudaEventRecord, event, as_stream(stream));
  return owner;
}

constexpr DeviceBackend kCuda = {
    .allocate = [](size_t bytes, const char* tag) { return allocator().allocate(bytes, tag); },
    .release = [](void* pointer) { allocator().release(pointer); },
    .copy = copy,
    .fill = fill,
    .synchronize = [](void* stream) { PLUME_CUDA(cudaStreamSynchronize, as_stream(stream)); },
    .describe = describe,
    .libraries = libraries,
    .begin_capture = begin_capture,
    .end_capture = end_capture,
    .abandon_capture = abandon_capture,
    .launch =
        [](void* graph, void* stream) {
          PLUME_CUDA(cudaGraphLaunch, static_cast<cudaGraphExec_t>(graph), as_stream(stream));
        },
    .destroy = [](void* graph) { cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph)); },
    .side_stream = side_stream,
    .record_event = record_event,
    .wait_event =
        [](void* stream, void* event) {
          PLUME_CUDA(cudaStreamWaitEvent, as_stream(stream), static_cast<cudaEvent_t>(event), 0u);
        },
    .await_event = [](void* event) { PLUME_CUDA(cudaEventSynchronize, static_cast<cudaEvent_t>(event)); },
    .begin_hold = [] { return allocator().begin_hold(); },
    .end_hold = [] { allocator().end_hold(); },
    .available_memory = available_memory,
    .cache_bytes = cache_bytes,
    .bus_id = bus_id,
};

// Each of several ranks on a machine sees one GPU, as number 0 and on every thread. A launcher that already
// handed out a single one is believed. Before the first call of the runtime.
void choose_gpu_of_rank() {
  const Launch& l = launch();
  if (l.world == 1) return;
  std::vector<std::string> visible;
  if (const char* list = std::getenv("CUDA_VISIBLE_DEVICES")) {
    if (!*list) return;  // set to nothing: no GPU is to be used
    for (std::string_view rest = list; !rest.empty();) {
      const size_t comma = std::min(rest.find(','), rest.size());
      visible.emplace_back(rest.substr(0, comma));
      rest.remove_prefix(std::min(comma + 1, rest.size()));
    }
  }
  const std::string own =
      visible.empty() ? std::to_string(l.local_rank) : visible[size_t(l.local_rank) % visible.size()];
  setenv("CUDA_VISIBLE_DEVICES", own.c_str(), 1);
}

// Empty when a usable GPU answers.
std::string find_device() {
  int count = 0;  // stays unwritten when the call fails
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaErrorInsufficientDriver) {
    int driver = 0, runtime = 0;
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    return message("the driver supports CUDA {}, this build needs {}", version(driver), version(runtime));
  }
  if (launch().world > 1 && (count == 0 || status == cudaErrorNoDevice))
    return message("rank {} has no GPU of its own (its number on this machine is {})", launch().rank,
                   launch().local_rank);
  if (status != cudaSuccess) return message("cudaGetDeviceCount: {}", cudaGetErrorString(status));
  if (count == 0) return "the driver reports no GPU";
  int major = 0, minor = 0;
  PLUME_CUDA(cudaDeviceGetAttribute, &major, cudaDevAttrComputeCapabilityMajor, 0);
  PLUME_CUDA(cudaDeviceGetAttribute, &minor, cudaDevAttrComputeCapabilityMinor, 0);
  if (major < kOldestMajor)
    return message("GPU 0 has compute capability {}.{}, {}.0 is needed", major, minor, kOldestMajor);
  cudaFuncAttributes attributes{};
  if (const cudaError_t refused = cudaFuncGetAttributes(&attributes, plume_cuda_probe_kernel())) {
    cudaGetLastError();
    return message(
        "this build has no kernels for GPU 0 (compute capability {}.{}): {}; build with "
        "-DCMAKE_CUDA_ARCHITECTURES={}{}",
        major, minor, cudaGetErrorString(refused), major, minor);
  }
  return {};
}

std::string start() {
  try {
    choose_gpu_of_rank();
    if (std::string reason = find_device(); !reason.empty()) return reason;
    PLUME_CUDA(cudaSetDevice, 0);
    cudaStream_t stream = nullptr;
    PLUME_CUDA(cudaStreamCreateWithFlags, &stream, cudaStreamNonBlocking);
    register_backend(Device::cuda, kCuda);
    register_device_allocator(Device::cuda, allocator());
    register_pinned_allocator(pinned());
    context(Device::cuda).set_stream(stream);
    return {};
  } catch (const std::exception& error) {
    return error.what();
  }
}

}  // namespace

}  // namespace plume::cuda

// Null when the cuda device is ready, otherwise the reason why it is not.
extern "C" const char* plume_cuda_start() {
  static const std::string reason = plume::cuda::start();
  return reason.empty() ? nullptr : reason.c_str();
}
