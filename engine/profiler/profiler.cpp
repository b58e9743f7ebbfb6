#include "engine/profiler/profiler.h"

#include <algorithm>
#include <numeric>

#include "engine/core/error.h"
#include "engine/core/scope.h"

namespace plume {
std::vector<size_t> faster_half(const std::vector<double>& values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] < values[b]; });
  order.resize((order.size() + 1) / 2);
  return order;
}

DType ProfileCall::dtype() const {
  DType found = DType::f32;
  int64_t largest = -1;
  for (const ProfileOperand& o : operands)
    if (is_floating(o.dtype) && o.shape.elements() > largest) {
      largest = o.shape.elements();
      found = o.dtype;
    }
  return found;
}

Profiler::Profiler(Context& context)
    : context_(context),
      tracer_(device_tracer(context.device())),
      counter_(kernel_counter(context.device())),
      wait_(!is_host(context.device()) && !tracer_.times_kernels()) {}

Profiler::~Profiler() {
  if (context_.observer() == this) context_.set_observer(nullptr);
}

// Observes the context while the pass runs, and waits for the device at its end.
void Profiler::run(const std::function<void()>& pass, bool learning) {
  PLUME_CHECK(context_.observer() == nullptr, "profiler: the {} context is already observed",
              context_.device());
  learning_ = learning;
  thread_ = std::this_thread::get_id();
  intervals_.clear();
  open_.clear();
  differs_ = false;
  if (learning) launch_owners_.clear();
  launches_ = counter_.launches ? counter_.launches() : 0;
  context_.synchronize();
  struct Observation {
    Context& context;
    Observation(Context& c, LaunchObserver* observer) : context(c) { context.set_observer(observer); }
    ~Observation() { context.set_observer(nullptr); }
  };
  const Observation observation(context_, this);
  pass_start_ = Clock::now();
  pass();
  note_launches();
  context_.synchronize();
}

void Profiler::learn(const std::function<void()>& pass) {
  passes_.clear();
  std::vector<ProfileCall> known;
  known.swap(calls_);
  run(pass, true);
  if (calls_.empty()) calls_.swap(known);  // a graph was replayed
  hand_down_costs();
  for (const int64_t owner : launch_owners_)
    if (owner >= 0) calls_[size_t(owner)].launches += 1;
  labels_.clear();
  for (const ProfileCall& call : calls_)
    labels_.push_back(message("{} {}/{}", call.scope, call.slot, call.variant));
}

void Profiler::measure(const std::function<void()>& pass) {
  PLUME_CHECK(!calls_.empty(), "profiler: no calls are known; learn a pass first");
  intervals_.reserve(calls_.size());
  if (tracer_.times_kernels()) {
    context_.synchronize();
    tracer_.start();
  }
  MeasuredPass measured;
  run(pass, false);
  measured.seconds = now();
  measured.start = std::chrono::duration<double>(pass_start_ - origin_).count();
  if (tracer_.times_kernels()) measured.kernels = tracer_.stop();
  measured.calls = intervals_;
  const bool replayed = measured.calls.empty() && !measured.kernels.empty();
  if (measured.calls.empty() && wait_)
    fail(ErrorKind::usage, "profiler: the kernels of a recorded pass cannot be timed without a tracer");
  if (differs_ || (measured.calls.size() != calls_.size() && !replayed))
    fail(ErrorKind::internal, "profiler: a pass made {} calls, not the {} that were learnt, or others",
         measured.calls.size(), calls_.size());
  attribute(measured);
  passes_.push_back(std::move(measured));
}

void Profiler::note(const KernelCall& call) {
  ProfileCall known;
  const ScopeState scope = current_scope();
  if (scope.owner) known.scope = scope.owner->scope_name();
  known.backward = scope.backward;
  known.slot = call.slot();
  known.variant = call.variant();
  known.cost = call.cost();
  call.for_each_operand([&](const Tensor& t, bool written) {
    if (t.defined()) known.operands.push_back({t.dtype(), t.shape(), written});
  });
  known.depth = int(open_.size());
  if (counter_.launches) known.launches = 0;
  calls_.push_back(std::move(known));
}

// What was launched since the last call began or ended belongs to the innermost one that is open.
void Profiler::note_launches() {
  if (!learning_ || !counter_.launches) return;
  const uint64_t now = counter_.launches();
  launch_owners_.insert(launch_owners_.end(), size_t(now - launches_),
                        open_.empty() ? -1 : int64_t(open_.back()));
  launches_ = now;
}

void Profiler::begin(const KernelCall& call) {
  if (std::this_thread::get_id() != thread_) return;
  note_launches();
  const size_t place = intervals_.size();
  if (learning_)
    note(call);
  else if (place >= calls_.size() || calls_[place].slot != call.slot() ||
           calls_[place].variant != call.variant())
    differs_ = true;
  open_.push_back(place);
  if (tracer_.push_call) tracer_.push_call(int64_t(place));
  if (tracer_.names_ranges())
    tracer_.push_range(place < labels_.size() ? labels_[place].c_str() : call.slot());
  if (wait_ && !is_recording()) context_.synchronize();
  intervals_.push_back({});
  intervals_.back().begin = now();
}

void Profiler::end(const KernelCall&) {
  if (std::this_thread::get_id() != thread_) return;
  note_launches();
  if (wait_ && !is_recording()) context_.synchronize();
  intervals_[open_.back()].end = now();
  open_.pop_back();
  if (tracer_.names_ranges()) tracer_.pop_range();
  if (tracer_.pop_call) tracer_.pop_call();
}

// Where a call leaves all its multiply-adds to calls nested in it, the work is theirs.
void Profiler::hand_down_costs() {
  for (size_t i = 0; i < calls_.size(); ++i) {
    double nested = 0;
    for (size_t j = i + 1; j < calls_.size() && calls_[j].depth > calls_[i].depth; ++j)
      if (calls_[j].depth == calls_[i].depth + 1) nested += calls_[j].cost.macs;
    if (nested > 0 && nested >= calls_[i].cost.macs) calls_[i].cost.macs = calls_[i].cost.bytes = 0;
  }
}

// Calls are in order of their begin: those inside a call follow it.
void Profiler::attribute(MeasuredPass& pass) const {
  pass.self_seconds.assign(calls_.size(), 0);
  if (tracer_.times_kernels()) {
    for (const KernelActivity& k : pass.kernels)
      if (k.call >= 0 && size_t(k.call) < calls_.size()) pass.self_seconds[size_t(k.call)] += k.seconds;
    return;
  }
  std::vector<size_t> outer;
  for (size_t i = 0; i < pass.calls.size(); ++i) {
    const double seconds = pass.calls[i].end - pass.calls[i].begin;
    outer.resize(size_t(calls_[i].depth));
    if (!outer.empty()) pass.self_seconds[outer.back()] -= seconds;
    pass.self_seconds[i] += seconds;
    outer.push_back(i);
  }
}

Profile Profiler::profile(std::vector<size_t> passes) const {
  Profile profile;
  profile.passes = passes_.size();
  profile.device_times = tracer_.times_kernels();
  profile.waits_around_calls = wait_;
  for (const ProfileCall& call : calls_)
    profile.rows.push_back({call, 0, profile.device_times ? 0.0 : call.launches});
  if (passes.empty()) {
    std::vector<double> durations;
    for (const MeasuredPass& pass : passes_) durations.push_back(pass.seconds);
    passes = faster_half(durations);
  }
  const double weight = passes.empty() ? 0 : 1 / double(passes.size());
  for (const size_t i : passes) {
    const MeasuredPass& pass = passes_.at(i);
    profile.step_seconds += weight * pass.seconds;
    for (size_t c = 0; c < calls_.size(); ++c) profile.rows[c].seconds += weight * pass.self_seconds[c];
    for (const KernelActivity& k : pass.kernels)
      if (k.call >= 0 && size_t(k.call) < calls_.size()) profile.rows[size_t(k.call)].launches += weight;
  }
  profile.outside_seconds = profile.step_seconds;
  for (const ProfileRow& row : profile.rows) profile.outside_seconds -= row.seconds;
  return profile;
}

}  // namespace plume
