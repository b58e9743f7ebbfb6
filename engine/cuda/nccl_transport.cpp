// NCCL for the memory of GPUs: one rank, one GPU. The library is opened when ranks first talk, so that
// nothing has to be installed for a single GPU; only its header is needed to build.
#include <dlfcn.h>
#include <nccl.h>

#include <cstring>
#include <vector>

#include "engine/core/context.h"
#include "engine/cuda/check.h"
#include "engine/cuda/handles.h"
#include "engine/distributed/transport.h"

namespace plume::cuda {
namespace {

struct Nccl {
  decltype(&ncclGetErrorString) error_string;
  decltype(&ncclGetUniqueId) get_unique_id;
  decltype(&ncclCommInitRank) comm_init_rank;
  decltype(&ncclAllReduce) all_reduce;
  decltype(&ncclAllGather) all_gather;
  decltype(&ncclBroadcast) broadcast;
};

const Nccl& nccl() {
  static const Nccl functions = [] {
    void* library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    if (!library) fail(ErrorKind::resource, "several GPUs need NCCL: {}", dlerror());
    const auto find = [&]<class F>(F& function, const char* name) {
      function = reinterpret_cast<F>(dlsym(library, name));
      if (!function) fail(ErrorKind::resource, "libnccl.so.2 has no {}", name);
    };
    Nccl found{};
    find(found.error_string, "ncclGetErrorString");
    find(found.get_unique_id, "ncclGetUniqueId");
    find(found.comm_init_rank, "ncclCommInitRank");
    find(found.all_reduce, "ncclAllReduce");
    find(found.all_gather, "ncclAllGather");
    find(found.broadcast, "ncclBroadcast");
    return found;
  }();
  return functions;
}

void check(const char* call, ncclResult_t status) {
  if (status != ncclSuccess) fail(ErrorKind::resource, "{}: {}", call, nccl().error_string(status));
}

// One group for both streams: NCCL keeps the order in which work is given to a group.
ncclComm_t group = nullptr;
cudaStream_t background = nullptr;
std::vector<cudaEvent_t> spare_events;

cudaStream_t stream() { return stream_of(context(Device::cuda)); }

cudaEvent_t take_event() {
  cudaEvent_t event = nullptr;
  if (spare_events.empty()) {
    PLUME_CUDA(cudaEventCreateWithFlags, &event, cudaEventDisableTiming);
  } else {
    event = spare_events.back();
    spare_events.pop_back();
  }
  return event;
}

// What is queued on `then` from now on waits for what is queued on `first` now.
void order(cudaStream_t first, cudaStream_t then) {
  cudaEvent_t event = take_event();
  PLUME_CUDA(cudaEventRecord, event, first);
  PLUME_CUDA(cudaStreamWaitEvent, then, event, 0);
  spare_events.push_back(event);  // the wait holds what was recorded, not the event
}

void reduce(void* data, size_t count, DType dtype, Reduction reduction, cudaStream_t on) {
  check("ncclAllReduce", nccl().all_reduce(data, data, count, dtype == DType::i64 ? ncclInt64 : ncclFloat32,
                                           reduction == Reduction::max ? ncclMax : ncclSum, group, on));
}

std::string make_id() {
  ncclUniqueId id;
  check("ncclGetUniqueId", nccl().get_unique_id(&id));
  return {id.internal, sizeof id.internal};
}

void open(const std::string& bytes, int rank, int world) {
  ncclUniqueId id;
  std::memcpy(id.internal, bytes.data(), sizeof id.internal);
  check("ncclCommInitRank", nccl().comm_init_rank(&group, world, id, rank));
  PLUME_CUDA(cudaStreamCreateWithFlags, &background, cudaStreamNonBlocking);
}

void all_gather(const void* mine, void* all, size_t bytes_of_one) {
  check("ncclAllGather", nccl().all_gather(mine, all, bytes_of_one, ncclUint8, group, stream()));
}

void broadcast(void* data, size_t bytes, int root) {
  check("ncclBroadcast", nccl().broadcast(data, data, bytes, ncclUint8, root, group, stream()));
}

void* start_all_reduce(void* data, size_t count, DType dtype, Reduction reduction) {
  order(stream(), background);
  reduce(data, count, dtype, reduction, background);
  cudaEvent_t done = take_event();
  PLUME_CUDA(cudaEventRecord, done, background);
  return done;
}

void wait(void* ticket) {
  const auto done = static_cast<cudaEvent_t>(ticket);
  PLUME_CUDA(cudaStreamWaitEvent, stream(), done, 0);
  spare_events.push_back(done);
}

constexpr DeviceTransport kNccl = {
    .make_id = make_id,
    .open = open,
    .all_reduce = [](void* data, size_t count, DType dtype,
                     Reduction reduction) { reduce(data, count, dtype, reduction, stream()); },
    .all_gather = all_gather,
    .broadcast = broadcast,
    .start_all_reduce = start_all_reduce,
    .wait = wait,
};

const bool registered = [] {
  register_device_transport(Device::cuda, &kNccl);
  return true;
}();

}  // namespace
}  // namespace plume::cuda
