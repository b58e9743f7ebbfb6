// Forward passes of an evaluation, batch after batch. Where the device can record, whole batches are replays
// of one recording; what they leave is copied to the host behind them.
#pragma once
#include <deque>
#include <memory>

#include "engine/core/graph.h"
#include "engine/modules/module.h"

namespace plume::tools {

class EvaluationPasses {
 public:
  // On the host: logits f32 [N, classes], labels i32 [N], their mean plain cross-entropy [1].
  struct Result {
    Tensor logits, labels, loss;
  };

  // `batch`: images of a whole one.
  EvaluationPasses(Module& model, Device device, DType precision, int64_t batch)
      : model_(model), device_(device), precision_(precision), batch_(batch) {}

  // images f32 [N, H, W, 3], labels i32 [N], on any device. The device may be at work when it returns.
  void start(const Tensor& images, const Tensor& labels);
  int unread() const { return int(reports_.size()); }
  Result take();  // of the oldest that was started; waits for it

 private:
  struct Report {
    Result result;
    std::shared_ptr<void> copied;  // event
  };
  Result forward(const Tensor& images, const Tensor& labels);
  bool record();
  void report(const Result& result);

  Module& model_;
  Device device_;
  DType precision_;
  int64_t batch_;
  bool warm_ = false, recordable_ = true;
  Tensor images_, labels_;  // of the recording, like what it leaves
  Result recorded_;
  StepGraph graph_;
  std::deque<Report> reports_;
};

}  // namespace plume::tools
