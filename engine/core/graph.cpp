#include "engine/core/graph.h"

#include <utility>

#include "engine/core/error.h"
#include "engine/core/recording.h"

namespace plume {

void StepGraph::capture(Context& context, std::function<void()> step) {
  refuse_while_recording("record another step");
  clear();
  PLUME_CHECK(step != nullptr, "graph: there is no step to capture");
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
}

StepGraph::~StepGraph() {
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
  if (recorded_) {
    context_->synchronize();  // a replay may still be running on the memory that goes back
    backend(context_->device()).destroy(recorded_);
  }
  recorded_ = nullptr;
  memory_.reset();
  step_ = nullptr;
  context_ = nullptr;
}

}  // namespace plume
