#include "engine/core/recording.h"

#include <optional>

#include "engine/core/error.h"

namespace plume {
namespace {

thread_local std::optional<Device> recorded_on_thread;

[[noreturn]] void refuse(const char* what) {
  fail(ErrorKind::internal, "graph: a recorded step must not {} (device {})", what, *recorded_on_thread);
}

}  // namespace

Recording::Recording(Device device) {
  refuse_while_recording("record another step");
  recorded_on_thread = device;
}
Recording::~Recording() { recorded_on_thread.reset(); }

bool is_recording() { return recorded_on_thread.has_value(); }

void refuse_while_recording(const char* what) {
  if (recorded_on_thread) refuse(what);
}

void refuse_while_recording(const char* what, Device device) {
  if (recorded_on_thread && *recorded_on_thread != device) refuse(what);
}

}  // namespace plume
