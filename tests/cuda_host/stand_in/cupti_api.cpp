// CUPTI, as far as engine/cuda/tracer.cpp asks: activity records of what the machine runs, with the host's
// clock. libcupti.so beside the stand-in is empty and depends on it, so that its symbols are found here.
#include <cuda_runtime_api.h>
#include <cupti.h>

#include <cstring>
#include <deque>
#include <mutex>
#include <vector>

#include "tests/cuda_host/stand_in/machine.h"

namespace plume::stand_in {
namespace {

struct Record {
  std::string name;
  uint64_t node = 0;
  uint32_t correlation = 0;
  uint64_t begin = 0, end = 0;
  bool link = false;  // of a call to the id that was pushed
  uint64_t external = 0;
};

struct Tracer {
  bool enabled = false;
  CUpti_CallbackFunc on_event = nullptr;
  CUpti_BuffersCallbackRequestFunc give_buffer = nullptr;
  CUpti_BuffersCallbackCompleteFunc take_buffer = nullptr;
  std::vector<uint64_t> pushed;
  uint32_t correlation = 0;
  std::deque<Record> records, handed_over;
};
Tracer& tracer() {
  static auto* const never_destroyed = new Tracer;
  return *never_destroyed;
}

// To the caller a node of a graph is a pointer; this one is its number.
void node_made(uint64_t node) {
  if (!tracer().on_event) return;
  CUpti_GraphData graph{};
  graph.node = reinterpret_cast<CUgraphNode>(node);
  CUpti_ResourceData data{};
  data.resourceDescriptor = &graph;
  tracer().on_event(nullptr, CUPTI_CB_DOMAIN_RESOURCE, CUPTI_CBID_RESOURCE_GRAPHNODE_CREATED, &data);
}

void given(Work& work) {
  Tracer& t = tracer();
  work.correlation = ++t.correlation;
  if (!t.enabled || t.pushed.empty()) return;
  Record link;
  link.link = true;
  link.correlation = work.correlation;
  link.external = t.pushed.back();
  t.records.push_back(link);
}

void ran(const Work& work, uint64_t begin, uint64_t end) {
  Tracer& t = tracer();
  if (!t.enabled || work.name == "wait") return;
  Record r;
  r.name = work.name;
  r.node = work.node;
  r.correlation = work.correlation;
  r.begin = begin;
  r.end = end;
  t.records.push_back(r);
}

// One record per buffer would do, but several must be handled as well.
constexpr size_t kRecordBytes = 512;
static_assert(sizeof(CUpti_ActivityKernel8) <= kRecordBytes && sizeof(CUpti_ActivityMemcpy5) <= kRecordBytes);

void write(const Record& r, uint8_t* to) {
  std::memset(to, 0, kRecordBytes);
  const auto common = [&](auto* activity, CUpti_ActivityKind kind) {
    activity->kind = kind;
    activity->correlationId = r.correlation;
    activity->graphNodeId = r.node;
    activity->start = r.begin;
    activity->end = r.end;
  };
  if (r.link) {
    auto* link = reinterpret_cast<CUpti_ActivityExternalCorrelation*>(to);
    link->kind = CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION;
    link->externalKind = CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0;
    link->correlationId = r.correlation;
    link->externalId = r.external;
  } else if (r.name == "memcpy") {
    common(reinterpret_cast<CUpti_ActivityMemcpy5*>(to), CUPTI_ACTIVITY_KIND_MEMCPY);
  } else if (r.name == "memset") {
    common(reinterpret_cast<CUpti_ActivityMemset4*>(to), CUPTI_ACTIVITY_KIND_MEMSET);
  } else {
    auto* kernel = reinterpret_cast<CUpti_ActivityKernel8*>(to);
    common(kernel, CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL);
    kernel->name = r.name.c_str();
  }
}

}  // namespace
}  // namespace plume::stand_in

using namespace plume::stand_in;

extern "C" {

CUptiResult cuptiSubscribe(CUpti_SubscriberHandle* subscriber, CUpti_CallbackFunc callback, void*) {
  Machine& machine = Machine::get();
  if (!machine.tracer_works) return CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED;
  tracer().on_event = callback;
  *subscriber = reinterpret_cast<CUpti_SubscriberHandle>(&tracer());
  machine.watcher = {node_made, given, ran};
  return CUPTI_SUCCESS;
}
CUptiResult cuptiUnsubscribe(CUpti_SubscriberHandle) {
  Machine::get().watcher = {};
  tracer().on_event = nullptr;
  return CUPTI_SUCCESS;
}
CUptiResult cuptiEnableCallback(uint32_t, CUpti_SubscriberHandle, CUpti_CallbackDomain, CUpti_CallbackId) {
  return CUPTI_SUCCESS;
}
CUptiResult cuptiActivityRegisterCallbacks(CUpti_BuffersCallbackRequestFunc give,
                                           CUpti_BuffersCallbackCompleteFunc take) {
  tracer().give_buffer = give;
  tracer().take_buffer = take;
  return CUPTI_SUCCESS;
}
CUptiResult cuptiActivityEnable(CUpti_ActivityKind kind) {
  if (const CUptiResult refused = CUptiResult(Machine::get().tracer_refuses)) return refused;
  tracer().enabled = tracer().enabled || kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL;
  return CUPTI_SUCCESS;
}
CUptiResult cuptiActivityDisable(CUpti_ActivityKind kind) {
  if (kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) tracer().enabled = false;
  return CUPTI_SUCCESS;
}
CUptiResult cuptiActivityFlushAll(uint32_t) {
  Tracer& t = tracer();
  const std::lock_guard lock(Machine::get().mutex());
  t.handed_over.swap(t.records);
  t.records.clear();
  while (!t.handed_over.empty()) {
    uint8_t* buffer = nullptr;
    size_t bytes = 0, most = 0, filled = 0;
    t.give_buffer(&buffer, &bytes, &most);
    if (!buffer) return CUPTI_ERROR_OUT_OF_MEMORY;
    std::deque<Record> inside;
    while (!t.handed_over.empty() && filled + kRecordBytes <= bytes) {
      inside.push_back(std::move(t.handed_over.front()));
      t.handed_over.pop_front();
      write(inside.back(), buffer + filled);
      filled += kRecordBytes;
    }
    t.take_buffer(nullptr, 0, buffer, bytes, filled);
  }
  return CUPTI_SUCCESS;
}
CUptiResult cuptiActivityGetNextRecord(uint8_t* buffer, size_t valid, CUpti_Activity** record) {
  uint8_t* next = *record ? reinterpret_cast<uint8_t*>(*record) + kRecordBytes : buffer;
  if (next + kRecordBytes > buffer + valid) return CUPTI_ERROR_MAX_LIMIT_REACHED;
  *record = reinterpret_cast<CUpti_Activity*>(next);
  return CUPTI_SUCCESS;
}
CUptiResult cuptiActivityPushExternalCorrelationId(CUpti_ExternalCorrelationKind, uint64_t id) {
  tracer().pushed.push_back(id);
  return CUPTI_SUCCESS;
}
CUptiResult cuptiActivityPopExternalCorrelationId(CUpti_ExternalCorrelationKind, uint64_t* last) {
  if (tracer().pushed.empty()) return CUPTI_ERROR_QUEUE_EMPTY;
  *last = tracer().pushed.back();
  tracer().pushed.pop_back();
  return CUPTI_SUCCESS;
}
CUptiResult cuptiGetTimestamp(uint64_t* nanoseconds) {
  *nanoseconds = Machine::now();
  return CUPTI_SUCCESS;
}
CUptiResult cuptiGetGraphNodeId(CUgraphNode node, uint64_t* id) {
  *id = reinterpret_cast<uint64_t>(node);
  return CUPTI_SUCCESS;
}

}  // extern "C"
