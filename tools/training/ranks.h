// Training by several ranks (engine/distributed/data_parallel.h), as the tools see it: who speaks and writes,
// what is added up. All ranks must call the same functions in the same order.
#pragma once
#include "data/sampler.h"
#include "engine/distributed/data_parallel.h"
#include "engine/modules/module.h"
#include "tools/training/evaluation.h"

namespace plume::tools {

// Makes the sampler deal this rank every world-th sample.
void share_samples(data::SamplerParams& sampler);

// A number for this rank: `seed` itself on the first.
uint64_t seed_of_rank(uint64_t seed);

class TrainingRanks {
 public:
  // For a model that is on its device and has its first (or restored) values: all ranks take rank 0's.
  TrainingRanks(Module& model, bool sync_batch_norm);

  int size() const { return ranks().size(); }
  bool first() const { return ranks().rank() == 0; }  // the rank that writes and speaks

  // Before each step: how many samples all have, whether a signal asked any of them to stop.
  SharedStep begin_step(int64_t samples);
  // Whether it is so on any rank.
  bool any(bool mine);
  // Gives all ranks rank 0's values of these.
  void share(const std::vector<NamedTensor>& tensors);
  // 0, or the signal that one of the ranks got.
  int stop_signal() { return begin_step(0).stop_signal; }
  // Adds to the gradients size() times that of the loss of all ranks' samples, where `loss` is the mean over
  // this rank's: divided by the ranks as by the passes of a step it is the mean. dy f32 [1]. Gradients are
  // summed over the ranks after the `last` pass.
  void backward(const Variable& loss, const Tensor& dy, const SharedStep& step, bool last = true);

  // Sums over all ranks, in place.
  void add_up(std::span<double> values) { ranks().all_reduce(values); }
  // Of all ranks' images.
  Evaluation total(const Evaluation& own);
  // Before an evaluation: rank 0's running statistics for all.
  void share_buffers() { training_.share_buffers(); }
  void barrier() { ranks().barrier(); }

 private:
  static Communicator& ranks() { return Communicator::world(); }
  DataParallel training_;
};

}  // namespace plume::tools
