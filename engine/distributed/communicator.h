// The ranks of a run that several processes compute together, and what they tell each other.
//
// Started by mpirun or srun (see launch.h), every process is a rank of one world; otherwise it is a world of
// one, for which everything here is free and no library is opened. Data in host memory travels by MPI
// (libplume_mpi.so, opened at the first use), data of a GPU by NCCL.
//
// All ranks must make the same calls in the same order, with equal shapes. Results are equal on all ranks bit
// for bit, and the same in every run of a world of that size. Failures throw resource errors; a rank that
// gives up must call abort(), or the others wait for it for ever.
#pragma once
#include <future>
#include <memory>
#include <span>
#include <vector>

#include "engine/core/tensor.h"
#include "engine/distributed/transport.h"

namespace plume {

class Communicator {
 public:
  // A world of one.
  Communicator();
  ~Communicator();
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  // The ranks that the launcher started; made at the first call, by all of them.
  static Communicator& world();
  // Ends all ranks with this exit code when world() has been made and has several; returns otherwise.
  static void abort_world(int code);

  int rank() const { return rank_; }
  int size() const { return size_; }

  // In place, over all ranks. f32 and i64 tensors of any device; on a GPU in the order of its stream.
  void all_reduce(Tensor& tensor, Reduction reduction = Reduction::sum);
  void all_reduce(std::span<double> values, Reduction reduction = Reduction::sum);
  void all_reduce(std::span<int64_t> values, Reduction reduction = Reduction::sum);
  // The same in the background, in the order of the calls. get() waits (a GPU's stream does, not the host)
  // and throws what went wrong; until then nobody may touch the tensor.
  std::future<void> start_all_reduce(Tensor tensor);
  // all [ranks, ...] holds every rank's `mine` [...], in order.
  void all_gather(const Tensor& mine, Tensor& all);
  std::vector<int64_t> all_gather(std::span<const int64_t> mine);
  void broadcast(Tensor& tensor, int root = 0);
  void barrier();

 private:
  class Worker;
  explicit Communicator(std::unique_ptr<Worker> worker);
  const DeviceTransport& transport_of(Device device);

  std::unique_ptr<Worker> worker_;  // null in a world of one
  int rank_ = 0, size_ = 1;
  const DeviceTransport* device_ = nullptr;  // opened at the first use
};

}  // namespace plume
