// A step that is recorded once and replayed: on a GPU one launch instead of hundreds.
//
//   StepGraph graph;
//   train_step();                                 // the libraries' plans are made and kernels loaded
//   graph.capture(context, [&] { train_step(); });
//   while (...) { refill_inputs(); graph.replay(); }
//
// What the step does on the device is recorded with its addresses and with every number passed by value: the
// caller keeps its inputs and parameters alive, in place, and lets whatever changes from step to step
// (learning rate, labels, random counters) be read from device memory. The step must not wait for the device,
// read from it or write host memory (recording.h). Memory that the step allocates stays reserved until the
// graph is gone; a tensor made by the step that is still alive holds the result of the latest replay.
//
// Where nothing can be recorded (cpu, simt) the step is kept and run again by each replay, under the same
// rules.
#pragma once
#include <functional>
#include <memory>

#include "engine/core/context.h"

namespace plume {

class StepGraph {
 public:
  StepGraph() = default;
  ~StepGraph();
  StepGraph(const StepGraph&) = delete;
  StepGraph& operator=(const StepGraph&) = delete;

  // Records without running, in place of what was recorded before. The context outlives the graph. What the
  // step throws passes through and leaves the graph empty.
  void capture(Context& context, std::function<void()> step);
  void replay();  // throws when nothing was captured
  void clear();
  bool captured() const { return context_ != nullptr; }

 private:
  Context* context_ = nullptr;
  std::function<void()> step_;    // hosts
  void* recorded_ = nullptr;      // devices that record
  std::shared_ptr<void> memory_;  // the blocks that the recording uses
};

// `prepare` runs at the beginning of each capture, on its thread and for its device: it makes what a step
// would otherwise make from numbers of the host when it first runs. Returns true so that it can initialise a
// constant.
bool before_recordings(void (*prepare)(Device));

}  // namespace plume
