// Batch norms' statistics computed anew for evaluation: "precise batch norm" (Wu and Johnson,
// arXiv:2105.07576, section 3.2). The running statistics of training are means over steps whose weights were
// still changing, and with a small momentum (0.01 in MobileNetV3) a short run leaves them near where they
// began.
//
//   {
//     BatchStatistics statistics(net);
//     for (const Tensor& images : batches) statistics.add(images);
//   }
#pragma once
#include <vector>

#include "engine/modules/layers.h"

namespace plume {

// While alive, the network is in evaluation mode but for its batch norms, which normalise with the batch's
// own statistics, and whose running ones become the plain mean over the batches added so far (momentum None
// in PyTorch). Frozen norms keep theirs. Afterwards the network is in evaluation mode; num_batches_tracked
// and the momentum are as before.
class BatchStatistics {
 public:
  explicit BatchStatistics(Module& module);
  ~BatchStatistics();
  BatchStatistics(const BatchStatistics&) = delete;
  BatchStatistics& operator=(const BatchStatistics&) = delete;

  void add(const Variable& images);  // a forward pass without gradients

 private:
  struct Norm {
    BatchNorm2d* module;
    float momentum;
    int64_t batches;
  };
  Module& module_;
  std::vector<Norm> norms_;
  int64_t added_ = 0;
};

}  // namespace plume
