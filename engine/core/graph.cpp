#include "engine/core/graph.h"

#include <utility>
#include <vector>

#include "engine/core/error.h"
#include "engine/core/recording.h"

namespace plume {
namespace {

// Of a graph that went while a step was recorded, when nobody may wait for its last replay.
struct Remains {
  Context* context;
  void* recorded;
  std::shared_ptr<void> memory;
};
thread_local std::vector<Remains>* remains = nullptr;  // a graph may outlive the thread's other variables

// A function-local static: they are given during static initialisation, in no particular order.
std::vector<void (*)(Device)>& preparations() {
  static std::vector<void (*)(Device)> all;
  return all;
}

void destroy(Context& context, void* recorded) {
  context.synchronize();  // a replay may still be running on the memory that goes back
  backend(context.device()).destroy(recorded);
}

void destroy_remains() {
  if (!remains) return;
  const std::unique_ptr<std::vector<Remains>> all(std::exchange(remains, nullptr));
  for (const Remains& r : *all) destroy(*r.context, r.recorded);
}

}  // namespace

bool before_recordings(void (*prepare)(Device)) {
  preparations().push_back(prepare);
  return true;
}

void StepGraph::capture(Context& context, std::function<void()> step) {
  refuse_while_recording("record another step");
  clear();
  PLUME_CHECK(step != nullptr, "graph: there is no step to capture");
  for (const auto prepare : preparations()) prepare(context.device());
  const DeviceBackend& device = backend(context.device());
  if (!device.begin_capture) {
    step_ = std::move(step);
    context_ = &context;
    return;
  }
  std::shared_ptr<void> memory = device.begin_hold();
  bool recording = false;
  try {
    device.begin_capture(context.stream());
    recording = true;
    {
      const Recording guard(context.device());
      step();
    }
    recording = false;
    recorded_ = device.end_capture(context.stream());
  } catch (...) {
    if (recording) device.abandon_capture(context.stream());
    device.end_hold();
    throw;
  }
  device.end_hold();
  memory_ = std::move(memory);
  context_ = &context;
  destroy_remains();
}

StepGraph::~StepGraph() {
  if (recorded_ && is_recording()) {
    if (!remains) remains = new std::vector<Remains>;
    remains->push_back({context_, recorded_, std::move(memory_)});
    return;
  }
  try {
    clear();
  } catch (const Error&) {  // the device is lost or the process ends: nothing is left to give back
  }
}

void StepGraph::replay() {
  PLUME_CHECK(captured(), "graph: replay before capture");
  if (recorded_) return backend(context_->device()).launch(recorded_, context_->stream());
  const Recording guard(context_->device());
  step_();
}

void StepGraph::clear() {
  destroy_remains();
  if (recorded_) destroy(*context_, recorded_);
  recorded_ = nullptr;
  memory_.reset();
  step_ = nullptr;
  context_ = nullptr;
}

}  // namespace plume
