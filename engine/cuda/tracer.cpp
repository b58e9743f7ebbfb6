// Kernel times for the profiler by CUPTI's activity records, and named ranges for Nsight by NVTX.
//
// A kernel belongs to the call that launched it: the call's number is pushed as CUPTI's external correlation
// id, which comes back with the launch. A kernel that a graph replays was launched by nobody: it carries the
// number of its graph node, which is noted when the node is recorded, and again when instantiating the graph
// clones it. CUPTI is opened at the first use and may be missing.
#include "engine/profiler/device_tracer.h"

#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
#endif

#if __has_include(<cupti.h>)
#include <cuda_runtime.h>
#include <cupti.h>
#include <cxxabi.h>
#include <dlfcn.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>

#include "engine/core/error.h"

namespace plume::cuda {
namespace {

struct Cupti {
  decltype(&cuptiSubscribe) subscribe;
  decltype(&cuptiUnsubscribe) unsubscribe;
  decltype(&cuptiEnableCallback) enable_callback;
  decltype(&cuptiActivityEnable) enable;
  decltype(&cuptiActivityDisable) disable;
  decltype(&cuptiActivityRegisterCallbacks) register_callbacks;
  decltype(&cuptiActivityFlushAll) flush_all;
  decltype(&cuptiActivityGetNextRecord) next_record;
  decltype(&cuptiActivityPushExternalCorrelationId) push_id;
  decltype(&cuptiActivityPopExternalCorrelationId) pop_id;
  decltype(&cuptiGetTimestamp) timestamp;
  decltype(&cuptiGetGraphNodeId) node_id;

  bool open() {
    const std::string name = message("libcupti.so.{}", CUDART_VERSION / 1000);
    void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) return false;
    const auto load = [&](auto& function, const char* symbol) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, symbol));
      return function != nullptr;
    };
    return load(subscribe, "cuptiSubscribe") && load(unsubscribe, "cuptiUnsubscribe") &&
           load(enable_callback, "cuptiEnableCallback") && load(enable, "cuptiActivityEnable") &&
           load(disable, "cuptiActivityDisable") &&
           load(register_callbacks, "cuptiActivityRegisterCallbacks") &&
           load(flush_all, "cuptiActivityFlushAll") && load(next_record, "cuptiActivityGetNextRecord") &&
           load(push_id, "cuptiActivityPushExternalCorrelationId") &&
           load(pop_id, "cuptiActivityPopExternalCorrelationId") && load(timestamp, "cuptiGetTimestamp") &&
           load(node_id, "cuptiGetGraphNodeId");
  }
};

void check_cupti(const char* call, CUptiResult status) {
  if (status != CUPTI_SUCCESS) fail(ErrorKind::resource, "{}: CUPTI error {}", call, int(status));
}

// API calls themselves are recorded too: only then are external ids.
constexpr CUpti_ActivityKind kKinds[] = {
    CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL,    CUPTI_ACTIVITY_KIND_MEMCPY,  CUPTI_ACTIVITY_KIND_MEMSET,
    CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION, CUPTI_ACTIVITY_KIND_RUNTIME, CUPTI_ACTIVITY_KIND_DRIVER};

// A piece of work on the device, before it is known whose it is.
struct Record {
  std::string name;
  uint32_t correlation;
  uint64_t node;  // of a graph; 0: launched by itself
  uint64_t start, end;
};

// CUPTI calls back from threads of its own.
struct State {
  Cupti cupti{};
  std::mutex mutex;
  std::map<uint64_t, int64_t> call_of_node;
  std::map<uint32_t, int64_t> call_of_correlation;
  std::vector<Record> records;
  uint64_t origin = 0;
};
State& state() {
  static auto* never_destroyed = new State;  // buffers may still arrive while the process ends
  return *never_destroyed;
}
thread_local std::vector<int64_t> open_calls;

std::string demangled(const char* name) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> text(abi::__cxa_demangle(name, nullptr, nullptr, &status),
                                                    std::free);
  return status == 0 ? text.get() : name;
}

void note(const CUpti_Activity* activity) {
  State& s = state();
  const auto add = [&](std::string name, const auto* r) {
    s.records.push_back({std::move(name), r->correlationId, r->graphNodeId, r->start, r->end});
  };
  // Later versions of these structs append fields.
  switch (activity->kind) {
    case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL: {
      const auto* kernel = reinterpret_cast<const CUpti_ActivityKernel8*>(activity);
      add(demangled(kernel->name), kernel);
      break;
    }
    case CUPTI_ACTIVITY_KIND_MEMCPY:
      add("memcpy", reinterpret_cast<const CUpti_ActivityMemcpy5*>(activity));
      break;
    case CUPTI_ACTIVITY_KIND_MEMSET:
      add("memset", reinterpret_cast<const CUpti_ActivityMemset4*>(activity));
      break;
    case CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION: {
      const auto* link = reinterpret_cast<const CUpti_ActivityExternalCorrelation*>(activity);
      if (link->externalKind == CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0)
        s.call_of_correlation[link->correlationId] = int64_t(link->externalId);
      break;
    }
    default:
      break;
  }
}

void CUPTIAPI give_buffer(uint8_t** buffer, size_t* size, size_t* most_records) {
  constexpr size_t kBytes = size_t(4) << 20, kAlignment = 8;
  *buffer = static_cast<uint8_t*>(std::aligned_alloc(kAlignment, kBytes));
  *size = *buffer ? kBytes : 0;
  *most_records = 0;  // as many as fit
}

void CUPTIAPI take_buffer(CUcontext, uint32_t, uint8_t* buffer, size_t, size_t filled) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  CUpti_Activity* activity = nullptr;
  while (s.cupti.next_record(buffer, filled, &activity) == CUPTI_SUCCESS) note(activity);
  std::free(buffer);
}

void CUPTIAPI on_graph_node(void*, CUpti_CallbackDomain domain, CUpti_CallbackId id, const void* data) {
  if (domain != CUPTI_CB_DOMAIN_RESOURCE) return;
  const auto* resource = static_cast<const CUpti_ResourceData*>(data);
  const auto* graph = static_cast<const CUpti_GraphData*>(resource->resourceDescriptor);
  State& s = state();
  uint64_t node = 0, original = 0;
  if (s.cupti.node_id(graph->node, &node) != CUPTI_SUCCESS) return;
  const std::lock_guard lock(s.mutex);
  if (id == CUPTI_CBID_RESOURCE_GRAPHNODE_CREATED) {
    if (!open_calls.empty()) s.call_of_node[node] = open_calls.back();
  } else if (id == CUPTI_CBID_RESOURCE_GRAPHNODE_CLONED) {
    if (s.cupti.node_id(graph->originalNode, &original) != CUPTI_SUCCESS) return;
    if (const auto known = s.call_of_node.find(original); known != s.call_of_node.end())
      s.call_of_node[node] = known->second;
  }
}

// In words, what users meet.
std::string refusal(const char* call, CUptiResult status) {
  const char* why = "";
  switch (status) {
    case CUPTI_ERROR_INSUFFICIENT_PRIVILEGES:
      why = ", the driver lets only administrators trace";
      break;
    case CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED:
      why = ", another tool traces this process";
      break;
    case CUPTI_ERROR_VIRTUALIZED_DEVICE_NOT_SUPPORTED:
    case CUPTI_ERROR_CONFIDENTIAL_COMPUTING_NOT_SUPPORTED:
      why = ", not on a GPU of this kind of virtual machine";
      break;
    default:
      break;
  }
  return message("{}: CUPTI error {}{}", call, int(status), why);
}

// Empty, or why kernels cannot be timed. Activities are switched on once to see whether they may be: a driver
// that keeps its counters to itself says so only then.
std::string enable_all(CUpti_SubscriberHandle subscriber) {
  const Cupti& c = state().cupti;
  CUptiResult status = CUPTI_SUCCESS;
  for (const CUpti_CallbackId id :
       {CUPTI_CBID_RESOURCE_GRAPHNODE_CREATED, CUPTI_CBID_RESOURCE_GRAPHNODE_CLONED}) {
    status = c.enable_callback(1, subscriber, CUPTI_CB_DOMAIN_RESOURCE, id);
    if (status != CUPTI_SUCCESS) return refusal("cuptiEnableCallback", status);
  }
  status = c.register_callbacks(give_buffer, take_buffer);
  if (status != CUPTI_SUCCESS) return refusal("cuptiActivityRegisterCallbacks", status);
  std::string reason;
  for (const CUpti_ActivityKind kind : kKinds)
    if (reason.empty() && (status = c.enable(kind)) != CUPTI_SUCCESS)
      reason = refusal("cuptiActivityEnable", status);
  for (const CUpti_ActivityKind kind : kKinds) c.disable(kind);
  return reason;
}

// The same, from the library on. Where it is refused nobody is subscribed.
std::string open_cupti() {
  Cupti& c = state().cupti;
  if (!c.open()) return "libcupti cannot be opened";
  CUpti_SubscriberHandle subscriber = nullptr;
  const CUptiResult status = c.subscribe(&subscriber, on_graph_node, nullptr);
  if (status != CUPTI_SUCCESS) return refusal("cuptiSubscribe", status);
  std::string reason = enable_all(subscriber);
  if (!reason.empty()) c.unsubscribe(subscriber);
  return reason;
}

void start() {
  State& s = state();
  {
    const std::lock_guard lock(s.mutex);
    s.records.clear();
    s.call_of_correlation.clear();
  }
  for (const CUpti_ActivityKind kind : kKinds) check_cupti("cuptiActivityEnable", s.cupti.enable(kind));
  check_cupti("cuptiGetTimestamp", s.cupti.timestamp(&s.origin));
}

std::vector<KernelActivity> stop() {
  State& s = state();
  cudaDeviceSynchronize();  // an error shows at the next call of the engine's own
  for (const CUpti_ActivityKind kind : kKinds) s.cupti.disable(kind);
  check_cupti("cuptiActivityFlushAll", s.cupti.flush_all(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED));
  const std::lock_guard lock(s.mutex);
  std::vector<KernelActivity> all;
  const auto call_of = [](const auto& calls, auto key) {
    const auto found = calls.find(key);
    return found == calls.end() ? int64_t(-1) : found->second;
  };
  constexpr double kNanosecond = 1e-9;
  for (Record& r : s.records)
    all.push_back({std::move(r.name),
                   r.node ? call_of(s.call_of_node, r.node) : call_of(s.call_of_correlation, r.correlation),
                   (double(r.start) - double(s.origin)) * kNanosecond,
                   double(r.end - r.start) * kNanosecond});
  s.records.clear();
  return all;
}

void push_call(int64_t call) {
  open_calls.push_back(call);
  state().cupti.push_id(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, uint64_t(call));
}

void pop_call() {
  open_calls.pop_back();
  uint64_t last = 0;
  state().cupti.pop_id(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, &last);
}

void add_kernel_times(DeviceTracer& tracer) {
  tracer.missing = open_cupti();
  if (!tracer.missing.empty()) return;
  tracer.start = start;
  tracer.stop = stop;
  tracer.push_call = push_call;
  tracer.pop_call = pop_call;
}

}  // namespace
}  // namespace plume::cuda

#else

namespace plume::cuda {
namespace {

void add_kernel_times(DeviceTracer& tracer) { tracer.missing = "built without CUPTI"; }

}  // namespace
}  // namespace plume::cuda

#endif

namespace plume::cuda {
namespace {

const bool registered = [] {
  register_device_tracer(Device::cuda, [] {
    DeviceTracer tracer;
    add_kernel_times(tracer);
#if __has_include(<nvtx3/nvToolsExt.h>)
    tracer.push_range = [](const char* name) { nvtxRangePushA(name); };
    tracer.pop_range = [] { nvtxRangePop(); };
#endif
    return tracer;
  });
  return true;
}();

}  // namespace
}  // namespace plume::cuda
