// What an operation needs besides its arguments: the device, its stream, random numbers and settings.
#pragma once
#include <cstdint>

#include "engine/core/device.h"
#include "engine/core/recording.h"

namespace plume {

class KernelCall;

// Is told of every kernel that runs; the profiler implements it. Variants may call other slots: calls nest.
// end() is told of calls that throw, too, and must not throw itself.
class LaunchObserver {
 public:
  virtual ~LaunchObserver() = default;
  virtual void begin(const KernelCall& call) = 0;
  virtual void end(const KernelCall& call) = 0;
};

class Context {
 public:
  explicit Context(Device device) : device_(device) {}
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  Device device() const { return device_; }
  void* stream() const { return stream_; }  // cudaStream_t on cuda, null elsewhere
  void set_stream(void* stream) { stream_ = stream; }
  void synchronize() const {  // not while a step is recorded
    refuse_while_recording("wait for the device");
    backend(device_).synchronize(stream_);
  }

  LaunchObserver* observer() const { return observer_; }
  void set_observer(LaunchObserver* observer) { observer_ = observer; }

  bool allow_tf32 = false;     // f32 matrix products on tensor cores with 10-bit mantissas
  bool deterministic = false;  // only variants whose result does not depend on scheduling

  // Philox key and counter (random.h): an operation takes the next `draws` counters of the stream.
  uint64_t seed = 0;
  uint64_t take_counters(uint64_t draws) {
    const uint64_t first = next_counter;
    next_counter += draws;
    return first;
  }
  uint64_t next_counter = 0;

 private:
  Device device_;
  void* stream_ = nullptr;
  LaunchObserver* observer_ = nullptr;
};

// One context per device, for the life of the process.
Context& context(Device device);

}  // namespace plume
