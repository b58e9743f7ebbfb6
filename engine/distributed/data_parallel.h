// Data parallel training: every rank holds the whole network and a share of each batch.
//
//   DataParallel ranks(Communicator::world(), parameters, buffers);       // all begin with rank 0's values
//   for each step:
//     const SharedStep step = ranks.begin_step(batch.count, stop_signal());
//     if (step.stop_signal) break;                                        // on all ranks, at the same step
//     ... loss = the mean over this rank's samples ...
//     ranks.backward(loss, Tensor of step.weight);                        // sums gradients on the way
//     optimiser.step();                                                   // the same on all ranks
//
// The loss of the whole batch is sum over ranks of weight * loss with weight = own samples / all samples, so
// that ranks with fewer samples count less. With sync_batch_norm (ops/sync_batch_norm.h) a step then equals
// that of one process with the whole batch; without, every rank normalises by its own samples.
#pragma once
#include "engine/distributed/gradient_buckets.h"

namespace plume {

struct SharedStep {
  int64_t samples = 0;  // of all ranks
  float weight = 1;     // this rank's part of them
  bool even = true;     // all ranks have as many
  int stop_signal = 0;  // the first rank's that has one
};

class DataParallel {
 public:
  // Copies rank 0's values to all ranks. Throws usage when the ranks' networks differ. Parameters that want
  // no gradient now (frozen ones) never get one.
  DataParallel(Communicator& communicator, std::vector<Variable> parameters, std::vector<Tensor*> buffers,
               const BucketSizes& sizes = {});

  // What the ranks tell each other before a step: how many samples each has, and whether one was asked to
  // stop.
  SharedStep begin_step(int64_t samples, int stop_signal = 0);
  // plume::backward(); afterwards gradients are sums over the ranks. To accumulate over several batches, call
  // plume::backward() for all but the last.
  void backward(const Variable& loss, Tensor dy);
  // Gives all ranks rank 0's buffers (running statistics differ unless batch norms are synchronised): before
  // an evaluation that the ranks share.
  void share_buffers();

  Communicator& communicator() { return communicator_; }

 private:
  void check_alike();

  Communicator& communicator_;
  std::vector<Variable> parameters_;
  std::vector<Tensor*> buffers_;
  std::unique_ptr<GradientBuckets> buckets_;  // null in a world of one
};

}  // namespace plume
