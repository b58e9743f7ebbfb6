// The entry points of the CUDA runtime that the cuda plug-in calls, over the machine.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>

#include "tests/cuda_host/stand_in/machine.h"

namespace plume::stand_in {
namespace {

static_assert(int(kOutOfMemory) == int(cudaErrorMemoryAllocation) &&
              int(kNoDevice) == int(cudaErrorNoDevice) &&
              int(kNoKernelImage) == int(cudaErrorNoKernelImageForDevice) &&
              int(kIllegalState) == int(cudaErrorIllegalState) && int(kNotReady) == int(cudaErrorNotReady) &&
              int(kCaptureUnsupported) == int(cudaErrorStreamCaptureUnsupported) &&
              int(kCaptureInvalidated) == int(cudaErrorStreamCaptureInvalidated) &&
              int(kCaptureUnmatched) == int(cudaErrorStreamCaptureUnmatched) &&
              int(kCaptureUnjoined) == int(cudaErrorStreamCaptureUnjoined) &&
              int(kCaptureIsolation) == int(cudaErrorStreamCaptureIsolation) &&
              int(kCaptureImplicit) == int(cudaErrorStreamCaptureImplicit) &&
              int(kUnknown) == int(cudaErrorUnknown));

constexpr int kMajor = 9, kMinor = 0, kVersion = CUDART_VERSION;
constexpr const char* kName = "stand-in (no GPU)";

Stream* of(cudaStream_t stream) { return reinterpret_cast<Stream*>(stream); }
Event& of(cudaEvent_t event) { return *reinterpret_cast<Event*>(event); }
using Graph = std::shared_ptr<Capture>;
Graph& of(cudaGraph_t graph) { return *reinterpret_cast<Graph*>(graph); }
Graph& of(cudaGraphExec_t graph) { return *reinterpret_cast<Graph*>(graph); }

// One call: under the lock, counted, its status kept as the last error.
template <class F>
cudaError_t call(const char* name, F&& f) {
  Machine& machine = Machine::get();
  const std::lock_guard lock(machine.mutex());
  if (const Status s = machine.enter(name)) return cudaError_t(s);
  return cudaError_t(machine.report(f(machine)));
}

struct Name {
  Status status;
  const char *name, *text;
};
constexpr Name kNames[] = {
    {kSuccess, "cudaSuccess", "no error"},
    {kInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {kOutOfMemory, "cudaErrorMemoryAllocation", "out of memory"},
    {kNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {kNoKernelImage, "cudaErrorNoKernelImageForDevice",
     "no kernel image is available for execution on the device"},
    {kIllegalState, "cudaErrorIllegalState", "the operation cannot be performed in the present state"},
    {kNotReady, "cudaErrorNotReady", "device not ready"},
    {kCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {kCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {kCaptureUnmatched, "cudaErrorStreamCaptureUnmatched",
     "capture was not ended in the same stream as it began"},
    {kCaptureUnjoined, "cudaErrorStreamCaptureUnjoined", "capturing stream has unjoined work"},
    {kCaptureIsolation, "cudaErrorStreamCaptureIsolation", "dependency created on uncaptured work"},
    {kCaptureImplicit, "cudaErrorStreamCaptureImplicit",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {kUnknown, "cudaErrorUnknown", "unknown error"},
};
const Name& name_of(cudaError_t error) {
  for (const Name& n : kNames)
    if (int(n.status) == int(error)) return n;
  return kNames[std::size(kNames) - 1];
}

}  // namespace
}  // namespace plume::stand_in

using namespace plume::stand_in;

extern "C" {

cudaError_t cudaGetLastError() { return cudaError_t(Machine::get().clear_error()); }
cudaError_t cudaPeekAtLastError() { return cudaError_t(Machine::get().last_error()); }
const char* cudaGetErrorName(cudaError_t error) { return name_of(error).name; }
const char* cudaGetErrorString(cudaError_t error) { return name_of(error).text; }

// ---- the device

cudaError_t cudaGetDeviceCount(int* count) {
  return call("cudaGetDeviceCount", [&](Machine&) {
    const char* const visible = std::getenv("CUDA_VISIBLE_DEVICES");
    if (visible && !*visible) return kNoDevice;
    *count = 1;
    return kSuccess;
  });
}
cudaError_t cudaSetDevice(int device) {
  return call("cudaSetDevice", [&](Machine&) { return device == 0 ? kSuccess : kInvalidValue; });
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  return call("cudaDeviceGetAttribute", [&](Machine&) {
    *value = attribute == cudaDevAttrComputeCapabilityMajor   ? kMajor
             : attribute == cudaDevAttrComputeCapabilityMinor ? kMinor
             : attribute == cudaDevAttrL2CacheSize            ? 1 << 20
                                                              : 0;
    return kSuccess;
  });
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  return call("cudaGetDeviceProperties", [&](Machine&) {
    std::memset(properties, 0, sizeof *properties);
    std::strcpy(properties->name, kName);
    properties->major = kMajor;
    properties->minor = kMinor;
    return kSuccess;
  });
}
cudaError_t cudaDriverGetVersion(int* version) {
  return call("cudaDriverGetVersion", [&](Machine&) { return *version = kVersion, kSuccess; });
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  return call("cudaRuntimeGetVersion", [&](Machine&) { return *version = kVersion, kSuccess; });
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  return call("cudaFuncGetAttributes", [&](Machine& m) {
    std::memset(attributes, 0, sizeof *attributes);
    return m.has_kernels ? kSuccess : kNoKernelImage;
  });
}
cudaError_t cudaDeviceGetPCIBusId(char* text, int bytes, int) {
  return call("cudaDeviceGetPCIBusId", [&](Machine&) {
    std::snprintf(text, size_t(bytes), "0000:00:00.0");
    return kSuccess;
  });
}
cudaError_t cudaMemGetInfo(size_t* available, size_t* total) {
  return call("cudaMemGetInfo", [&](Machine& m) {
    m.memory(available, total);
    return kSuccess;
  });
}

// ---- memory

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  return call("cudaMalloc", [&](Machine& m) { return m.allocate(pointer, bytes); });
}
cudaError_t cudaFree(void* pointer) {
  return call("cudaFree", [&](Machine& m) { return m.release(pointer); });
}
cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned) {
  return call("cudaHostAlloc", [&](Machine& m) { return m.allocate_pinned(pointer, bytes); });
}
cudaError_t cudaFreeHost(void* pointer) {
  return call("cudaFreeHost", [&](Machine& m) { return m.release_pinned(pointer); });
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  return call("cudaMemcpyAsync", [&](Machine& m) { return m.copy(to, from, bytes, of(stream)); });
}
cudaError_t cudaMemsetAsync(void* to, int byte, size_t bytes, cudaStream_t stream) {
  return call("cudaMemsetAsync", [&](Machine& m) {
    Work work{"memset", [=] { std::memset(to, byte, bytes); }, {}};
    m.note_use(to, work.uses);
    return m.give(of(stream), std::move(work));
  });
}

// ---- streams and events

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return call("cudaStreamCreateWithFlags", [&](Machine& m) {
    if (flags != cudaStreamNonBlocking) m.remark("a stream that waits for the default stream");
    *stream = reinterpret_cast<cudaStream_t>(m.make_stream());
    return kSuccess;
  });
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return call("cudaStreamSynchronize", [&](Machine& m) { return m.wait(of(stream)); });
}
cudaError_t cudaDeviceSynchronize() {
  return call("cudaDeviceSynchronize", [&](Machine& m) { return m.wait_for_all(); });
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  return call("cudaStreamQuery", [&](Machine& m) { return m.query(of(stream)); });
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  return call("cudaEventCreateWithFlags", [&](Machine&) {
    *event = reinterpret_cast<cudaEvent_t>(new Event);
    return kSuccess;
  });
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
// Not the clock: what each piece of work is said to take.
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  return call("cudaEventElapsedTime", [&](Machine& m) {
    *milliseconds = float((of(end).microseconds - of(begin).microseconds) / 1000);
    return m.query(of(end));
  });
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return call("cudaEventDestroy", [&](Machine&) { return delete &of(event), kSuccess; });
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return call("cudaEventRecord", [&](Machine& m) { return m.record(of(event), of(stream)); });
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return call("cudaEventSynchronize", [&](Machine& m) { return m.wait(of(event)); });
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  return call("cudaEventQuery", [&](Machine& m) { return m.query(of(event)); });
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  return call("cudaStreamWaitEvent", [&](Machine& m) { return m.wait(of(stream), of(event)); });
}

// ---- recordings

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  return call("cudaStreamBeginCapture", [&](Machine& m) {
    return m.begin_capture(of(stream), mode == cudaStreamCaptureModeRelaxed  ? CaptureMode::relaxed
                                       : mode == cudaStreamCaptureModeGlobal ? CaptureMode::global
                                                                             : CaptureMode::thread_local_);
  });
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  Machine& machine = Machine::get();
  const std::lock_guard lock(machine.mutex());
  // Whatever it returns, the stream no longer records.
  const Status refused = machine.enter("cudaStreamEndCapture");
  Graph made;
  const Status status = machine.end_capture(of(stream), &made);
  if (refused != kSuccess || status != kSuccess)
    return cudaError_t(machine.report(refused != kSuccess ? refused : status));
  *graph = reinterpret_cast<cudaGraph_t>(new Graph(std::move(made)));
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  return call("cudaGraphDestroy", [&](Machine&) { return delete &of(graph), kSuccess; });
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  return call("cudaGraphInstantiate", [&](Machine&) {
    *executable = reinterpret_cast<cudaGraphExec_t>(new Graph(of(graph)));
    return kSuccess;
  });
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  return call("cudaGraphExecDestroy", [&](Machine&) { return delete &of(executable), kSuccess; });
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  return call("cudaGraphLaunch", [&](Machine& m) { return m.replay(of(executable), of(stream)); });
}

}  // extern "C"
