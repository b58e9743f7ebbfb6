// One step of training: forward, backward, optimiser. Where the device can, it is recorded once and replayed.
#pragma once
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "data/loader.h"
#include "engine/core/graph.h"
#include "engine/ops/mix_batch.h"
#include "tools/training/learner.h"

namespace plume::tools {

struct StepParams {
  int64_t batch = 0;   // images of a whole batch
  int64_t passes = 1;  // batches of a whole step
  float label_smoothing = 0;
  DType precision = DType::f32;
  double ema_decay = 0;  // per step
  MixParams mix;
  uint64_t seed = 0;  // of the mixing
  int classes = 0;
  bool graph = false;
};

class TrainingStep {
 public:
  // Of all ranks.
  struct Result {
    int64_t step = 0;
    double loss_sum = 0;  // over the images
    int64_t images = 0;
    int64_t correct = 0;  // images whose label has the largest logit; -1 where images are mixed
  };

  // `say` is told, once, why a step runs call by call although params.graph is set.
  TrainingStep(Learner& learner, const StepParams& params, Device device,
               std::function<void(const std::string&)> say);

  // Starts step number `step` over this rank's batches, whose gradients are added up. The device may still be
  // at work when this returns.
  void start(const std::vector<data::Batch>& batches, int64_t step, float learning_rate);
  // Of the oldest step that was not asked for; waits until the device has done it. The numbers are copied
  // behind each step, so that the next one can be started before.
  Result result();
  int unread() const { return int(reports_.size()); }
  // After a step whose loss is not finite: the first layer whose output is not, with the kernel's slot,
  // "layer1.0.conv1 (conv2d.forward)". Empty when there is none. The weights are those before the step where
  // the host computes, else those after it.
  std::string first_bad_layer();

 private:
  struct Pass {
    Tensor images, labels;
    Tensor loss, logits;
  };
  Variable forward(Pass& pass, size_t number);  // the loss
  // What a step leaves for result().
  struct Report {
    int64_t step;
    Tensor sums;                   // of batch_metrics, on the host
    std::shared_ptr<void> copied;  // event
  };
  void report(int64_t step);
  bool fits_graph(const std::vector<data::Batch>& batches);
  void run();     // eagerly, over passes_
  bool record();  // the same, to be replayed; false, with a warning, where that cannot be
  void replay();

  Learner& learner_;
  TrainingRanks& ranks_;
  StepParams params_;
  Device device_;
  std::function<void(const std::string&)> say_, warn_;
  std::vector<BatchMixer> mixers_;  // one per pass
  std::vector<Pass> passes_;        // of the step under way
  std::vector<SharedStep> shares_;  // what all ranks have in each of them
  std::vector<Pass> recorded_;      // of the graph: its inputs and outputs
  StepGraph graph_;
  Tensor sums_;  // of the step under way
  std::deque<Report> reports_;
  bool warm_ = false, fresh_ = false;
  // Batch norm counts its batches on the host, which a replay does not see.
  std::vector<Tensor> counters_;
  std::vector<int64_t> increments_;
};

}  // namespace plume::tools
