// Where the time of a repeated piece of work ("pass": one inference, one training step) goes, call by call.
//
//   Profiler profiler(context(device));
//   profiler.learn(pass);                       // what is called, with which tensors; nothing is timed
//   for (...) profiler.measure(pass);           // the same calls again, timed
//   for (const Profile& p = profiler.profile(); const ProfileRow& row : p.rows) ...
//
// Passes must make the same calls in the same order. On host devices a call's time is the wall clock around
// it, less that of calls nested in it. On a device with a tracer it is the time of its kernels, replays of
// recorded graphs included; without one the device is waited for around every call, which adds to the step,
// and passes must not be replays.
// What belongs to no call (tape, allocation, waiting for the device) is `outside`: rows and outside add up to
// the step.
#pragma once
#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "engine/core/context.h"
#include "engine/core/kernel_call.h"
#include "engine/profiler/device_tracer.h"
#include "engine/profiler/kernel_counts.h"

namespace plume {

struct ProfileOperand {
  DType dtype;
  Shape shape;
  bool written;
};

// One call of a slot, by its place in the pass.
struct ProfileCall {
  std::string scope;  // of the module ("features.3.block.0.0"), or by name ("loss"); empty: the whole network
  bool backward = false;
  const char* slot = nullptr;
  const char* variant = nullptr;
  CallCost cost;  // nothing where calls nested in it do all the work
  std::vector<ProfileOperand> operands;
  int depth = 0;         // 1: inside another call, whose variant is made of others
  double launches = -1;  // of kernels, without those of nested calls; -1: the device tells later, or never

  DType dtype() const;  // of the largest floating operand
};

struct ProfileRow {
  ProfileCall call;
  double seconds = 0;   // without nested calls
  double launches = 0;  // of kernels; -1 where they are not counted
};

struct Profile {
  std::vector<ProfileRow> rows;  // in order of execution
  double step_seconds = 0;       // mean, as of the rows, over the passes that were asked for
  double outside_seconds = 0;    // of it, in no call
  size_t passes = 0;             // measured
  bool device_times = false;     // of kernels on the device, not of calls on the host
  bool waits_around_calls = false;
};

// Seconds since the pass began.
struct CallInterval {
  double begin = 0, end = 0;
};
struct MeasuredPass {
  double start = 0;                     // seconds since the profiler was made
  double seconds = 0;                   // until the device had finished
  std::vector<CallInterval> calls;      // on the host; empty where a graph was replayed
  std::vector<KernelActivity> kernels;  // on the device, start since the pass began
  std::vector<double> self_seconds;     // per call
};

class Profiler : private LaunchObserver {
 public:
  explicit Profiler(Context& context);
  ~Profiler() override;
  Profiler(const Profiler&) = delete;
  Profiler& operator=(const Profiler&) = delete;

  // Runs a pass and notes its calls in place of those known before (a replayed graph makes none). Several may
  // be needed until nothing is cast, packed or recorded any more.
  void learn(const std::function<void()>& pass);
  // Runs and times a pass. Throws an internal error when its calls are not those that were learnt.
  void measure(const std::function<void()>& pass);

  // Takes a pass for measured that was worked out in another way: self_seconds and calls of as many as
  // there are.
  void assume(MeasuredPass pass) { passes_.push_back(std::move(pass)); }

  // Means over some of the passes: over the faster half when none are given.
  Profile profile(std::vector<size_t> passes = {}) const;
  const std::vector<ProfileCall>& calls() const { return calls_; }
  // Of each kernel launch of the pass that was learnt, in order, the call that made it, or -1. Empty where
  // the device does not count them (kernel_counts.h).
  const std::vector<int64_t>& launch_owners() const { return launch_owners_; }
  const std::vector<MeasuredPass>& passes() const { return passes_; }

 private:
  using Clock = std::chrono::steady_clock;
  void begin(const KernelCall& call) override;
  void end(const KernelCall& call) override;
  void note(const KernelCall& call);
  void note_launches();
  void hand_down_costs();
  void run(const std::function<void()>& pass, bool learning);
  void attribute(MeasuredPass& pass) const;
  double now() const { return std::chrono::duration<double>(Clock::now() - pass_start_).count(); }

  Context& context_;
  const DeviceTracer& tracer_;
  const KernelCounter& counter_;
  const bool wait_;  // around calls
  const Clock::time_point origin_ = Clock::now();
  std::thread::id thread_;
  Clock::time_point pass_start_;
  bool learning_ = false, differs_ = false;
  std::vector<ProfileCall> calls_;
  std::vector<std::string> labels_;  // of the calls, for named ranges
  std::vector<CallInterval> intervals_;
  std::vector<size_t> open_;  // calls that have begun
  uint64_t launches_ = 0;     // of the device, when a call last began or ended
  std::vector<int64_t> launch_owners_;
  std::vector<MeasuredPass> passes_;
};

// The places of the smaller half of the values (rounded up). Of times, the half that was disturbed least:
// other work on a machine can only add to them.
std::vector<size_t> faster_half(const std::vector<double>& values);

}  // namespace plume
