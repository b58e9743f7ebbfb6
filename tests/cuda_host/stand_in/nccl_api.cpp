// NCCL between processes of this machine, over shared memory: the entry points that
// engine/cuda/nccl_transport.cpp opens. A collective is work of its stream like any other, in a recording,
// too. It runs as soon as it is given, with all that its stream has before it: a GPU would get to it while
// the host waits for something else, and here the ranks would wait for each other.
#include <fcntl.h>
#include <nccl.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "tests/cuda_host/stand_in/machine.h"

namespace plume::stand_in {
namespace {

constexpr size_t kChunk = size_t(1) << 20;  // bytes of a rank that the others see at once
constexpr int kMostRanks = 8;
constexpr uint64_t kPatience = 60'000'000'000;  // nanoseconds

struct Asked {
  int kind, detail;  // detail: reduction or root
  uint64_t bytes;
  bool operator==(const Asked&) const = default;
};

struct Shared {
  std::atomic<int> arrived, generation;
  Asked asked[kMostRanks];
  char data[kMostRanks][kChunk];
};

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "stand-in: NCCL: %s\n", what);
  std::abort();
}

size_t size_of(ncclDataType_t type) {
  switch (type) {
    case ncclUint8:
      return 1;
    case ncclFloat32:
      return 4;
    case ncclInt64:
      return 8;
    default:
      die("a type of data that it does not know");
  }
}

template <class T>
void reduce(T* sum, const T* other, size_t count, ncclRedOp_t operation) {
  for (size_t i = 0; i < count; ++i)
    sum[i] = operation == ncclMax ? std::max(sum[i], other[i]) : T(sum[i] + other[i]);
}

}  // namespace
}  // namespace plume::stand_in

using namespace plume::stand_in;

struct ncclComm {
  Shared* shared;
  int rank, world;

  void meet() {
    const int now = shared->generation;
    if (++shared->arrived == world) {
      shared->arrived = 0;
      ++shared->generation;
      return;
    }
    for (const uint64_t start = Machine::now(); shared->generation == now; sched_yield())
      if (Machine::now() - start > kPatience) die("the other ranks do not come");
  }

  // `each(rank, bytes, offset)` sees every rank's part in turn, in the same order on all ranks: sums repeat.
  template <class F>
  void exchange(const Asked& asked, const void* mine, F&& each) {
    shared->asked[rank] = asked;
    meet();
    for (int r = 0; r < world; ++r)
      if (!(shared->asked[r] == asked)) die("the ranks ask for different things");
    for (size_t offset = 0; offset < asked.bytes; offset += kChunk) {
      const size_t bytes = std::min(kChunk, size_t(asked.bytes) - offset);
      std::memcpy(shared->data[rank], static_cast<const char*>(mine) + offset, bytes);
      meet();
      for (int r = 0; r < world; ++r) each(r, bytes, offset);
      meet();  // before the next part takes its place
    }
  }
};

namespace {

ncclResult_t give(const char* name, const void* from, const void* to, cudaStream_t stream,
                  std::function<void()> run) {
  Machine& machine = Machine::get();
  const std::lock_guard lock(machine.mutex());
  if (machine.enter(name)) return ncclUnhandledCudaError;
  Work work{name, std::move(run), {}};
  work.at_once = true;
  machine.note_use(from, work.uses);
  machine.note_use(to, work.uses);
  return machine.give(reinterpret_cast<Stream*>(stream), std::move(work)) ? ncclUnhandledCudaError
                                                                          : ncclSuccess;
}

}  // namespace

extern "C" {

const char* ncclGetErrorString(ncclResult_t result) {
  return result == ncclSuccess ? "no error" : "unhandled cuda error";
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  Machine& machine = Machine::get();
  const std::lock_guard lock(machine.mutex());
  if (machine.enter("ncclGetUniqueId")) return ncclUnhandledCudaError;
  std::memset(id->internal, 0, sizeof id->internal);
  std::snprintf(id->internal, sizeof id->internal, "/plume-stand-in-%d-%llu", int(getpid()),
                static_cast<unsigned long long>(Machine::now()));
  return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t* comm, int world, ncclUniqueId id, int rank) {
  Machine& machine = Machine::get();
  const std::lock_guard lock(machine.mutex());
  if (machine.enter("ncclCommInitRank")) return ncclUnhandledCudaError;
  if (world > kMostRanks) die("more ranks than it can have");
  const int file = shm_open(id.internal, O_CREAT | O_RDWR, 0600);
  if (file < 0 || ftruncate(file, sizeof(Shared)) != 0) die("no shared memory");
  void* const shared = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (shared == MAP_FAILED) die("no shared memory");
  *comm = new ncclComm{static_cast<Shared*>(shared), rank, world};
  (*comm)->meet();
  if (rank == 0) shm_unlink(id.internal);
  return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void* from, void* to, size_t count, ncclDataType_t type,
                           ncclRedOp_t operation, ncclComm_t comm, cudaStream_t stream) {
  return give("ncclAllReduce", from, to, stream, [=] {
    const Asked asked{0, int(operation), count * size_of(type)};
    comm->exchange(asked, from, [&](int r, size_t bytes, size_t offset) {
      char* const out = static_cast<char*>(to) + offset;
      const char* const in = comm->shared->data[r];
      if (r == 0)
        std::memcpy(out, in, bytes);
      else if (type == ncclFloat32)
        reduce(reinterpret_cast<float*>(out), reinterpret_cast<const float*>(in), bytes / 4, operation);
      else
        reduce(reinterpret_cast<int64_t*>(out), reinterpret_cast<const int64_t*>(in), bytes / 8, operation);
    });
  });
}

ncclResult_t ncclAllGather(const void* from, void* to, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  return give("ncclAllGather", from, to, stream, [=] {
    const Asked asked{1, 0, count * size_of(type)};
    comm->exchange(asked, from, [&](int r, size_t bytes, size_t offset) {
      std::memcpy(static_cast<char*>(to) + size_t(r) * asked.bytes + offset, comm->shared->data[r], bytes);
    });
  });
}

ncclResult_t ncclBroadcast(const void* from, void* to, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  return give("ncclBroadcast", from, to, stream, [=] {
    const Asked asked{2, root, count * size_of(type)};
    comm->exchange(asked, from, [&](int r, size_t bytes, size_t offset) {
      if (r == root) std::memcpy(static_cast<char*>(to) + offset, comm->shared->data[r], bytes);
    });
  });
}

}  // extern "C"
