// The step that is being recorded on this thread (see graph.h), and what it must not do.
//
// A recording keeps what the device is given, not what the host does meanwhile: a wait, a value read from the
// device or a copy from host memory happens once and not in the replays, or breaks the recording. On a GPU
// the driver refuses some of it, and not all. Here all of it is refused, on every device: where nothing can
// be recorded the guard watches the step whenever it is run again, so that a mistake shows without a GPU.
#pragma once
#include "engine/core/device.h"

namespace plume {

// While alive, this thread records a step of `device`. May not be nested.
class Recording {
 public:
  explicit Recording(Device device);
  ~Recording();
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;
};

bool is_recording();
// Throws an internal error while a step is recorded: "a recorded step must not <what> ...".
void refuse_while_recording(const char* what);
// The same for work on memory of `device`, unless that is the one that is recorded.
void refuse_while_recording(const char* what, Device device);

}  // namespace plume
