// Gradients summed over ranks while backward() still computes others.
//
// Parameters are dealt out to buckets, the last one first, since that is the order in which their gradients
// become complete: a small bucket, so that the first reduction starts early, then larger ones, so that few
// are needed. A bucket's reduction starts when all its gradients are there and those of the buckets before it
// have started, so that all ranks start them in the same order. Source: Li et al., "PyTorch Distributed",
// 2020.
#pragma once
#include <future>
#include <unordered_map>
#include <vector>

#include "engine/autograd/tape.h"
#include "engine/distributed/communicator.h"

namespace plume {

struct BucketSizes {
  int64_t first_bytes = int64_t(1) << 20;
  int64_t other_bytes = int64_t(8) << 20;
};

class GradientBuckets {
 public:
  // f32 parameters on one device, in the order in which the network uses them; the same on all ranks.
  GradientBuckets(Communicator& communicator, std::vector<Variable> parameters,
                  const BucketSizes& sizes = {});

  // A parameter's gradient is complete: backward()'s hook. Other variables are ignored.
  void ready(Variable& parameter);
  // Waits for all reductions. A parameter that was not ready counts with the gradient it has, or with zero.
  // Gradients are then the sums over all ranks, in the buckets' memory until the next ready().
  void finish();

  size_t count() const { return buckets_.size(); }

 private:
  struct Entry {
    Variable parameter;
    Tensor slice;  // the parameter's part of the bucket
    bool ready = false;
  };
  struct Bucket {
    Tensor values;
    std::vector<Entry> entries;
    size_t missing = 0;
    std::future<void> sum;
  };
  void take(Entry& entry);
  void start_complete();

  Communicator& communicator_;
  std::vector<Bucket> buckets_;
  std::unordered_map<const Tensor*, std::pair<size_t, size_t>>
      places_;  // by where the parameter's value lives
  size_t started_ = 0;
};

}  // namespace plume
