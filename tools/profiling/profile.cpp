#include "tools/profiling/profile.h"

#include <algorithm>

#include "engine/core/notes.h"
#include "engine/profiler/cost.h"
#include "tools/cli/clock.h"

namespace plume::tools {

int64_t forward_macs(const ProfileRequest& request, int classes) {
  const auto model = make_model(request.model, {.num_classes = classes, .stem = request.options.stem});
  model->eval();
  const NoGrad no_grad;
  const CostCounter counter;
  const int size = request.workload.size;
  (*model)(Variable(Tensor::zeros({1, size, size, 3}, DType::f32, Device::cpu, "input")));
  return counter.macs();
}

size_t end_of_call(const std::vector<ProfileCall>& calls, size_t call) {
  size_t end = call + 1;
  while (end < calls.size() && calls[end].depth > calls[call].depth) ++end;
  return end;
}

double launches(const Profile& profile) {
  double sum = 0;
  for (const ProfileRow& row : profile.rows) {
    if (row.launches < 0) return -1;
    sum += row.launches;
  }
  return sum;
}

ProfileRun::ProfileRun(const ProfileRequest& request, const Preference& preference)
    : request_(request), preference_(preference), context_(context(request.device)), profiler_(context_) {
  prefer();
  run_ = std::make_unique<ModelRun>(request.model, request.workload, request.dtype, request.device,
                                    request.options);
  report_.request = request;
  report_.machine = backend(request.device).describe();
  report_.classes = run_->classes();
  report_.parameters = run_->model().parameter_count();
  report_.macs_per_image = forward_macs(request, run_->classes());
}

void ProfileRun::prefer() const {
  if (preference_.slot) preference_.slot->prefer(request_.device, preference_.variant);
}

void ProfileRun::pass() {
  run_->pass();
  run_->synchronize();
}

void ProfileRun::prepare() {
  prefer();
  // The plain passes cast and pack, the next one is recorded where passes are.
  for (int i = 0; i <= ModelRun::kPlainPasses; ++i) profiler_.learn([&] { run_->pass(); });
  CachingAllocator& memory = device_allocator(request_.device);
  memory.reset_peak();
  pass();
  report_.memory = memory.statistics();
}

void ProfileRun::warm_up() {
  prefer();
  pass();
}

void ProfileRun::plain_pass() {
  prefer();
  context_.synchronize();
  const Clock::time_point start = Clock::now();
  pass();
  alone_.push_back(seconds_since(start));
}

void ProfileRun::watched_pass() {
  prefer();
  profiler_.measure([&] { run_->pass(); });
}

ProfileReport ProfileRun::report() const {
  run_->check();
  ProfileReport report = report_;
  // The same turns for both, so that they share the disturbances that are left.
  std::vector<double> turns;
  for (size_t i = 0; i < alone_.size(); ++i) turns.push_back(alone_[i] + profiler_.passes()[i].seconds);
  const std::vector<size_t> chosen = faster_half(turns);
  report.profile = profiler_.profile(chosen);
  for (const size_t i : chosen) report.alone_seconds += alone_[i] / double(chosen.size());
  report.notes = notes();
  return report;
}

void measure_in_turns(const std::vector<ProfileRun*>& runs, double seconds) {
  constexpr int kFewestPasses = 5;
  for (ProfileRun* run : runs) run->prepare();
  const double wanted = seconds * double(runs.size());
  const Clock::time_point warming = Clock::now();
  do
    for (ProfileRun* run : runs) run->warm_up();
  while (seconds_since(warming) < std::min(wanted, 1.0));
  const Clock::time_point start = Clock::now();
  for (int turn = 0; turn < kFewestPasses || seconds_since(start) < wanted; ++turn)
    for (ProfileRun* run : runs) {
      // Whoever comes second finds the caches as the other left them: take turns.
      if (turn % 2) run->watched_pass();
      run->plain_pass();
      if (turn % 2 == 0) run->watched_pass();
    }
}

Achieved achieved(const CallCost& cost, double seconds, DType dtype, const Ceilings& ceilings) {
  if (seconds <= 0) return {};
  const double flops = 2 * cost.macs;
  return {cost.bytes / seconds, flops / seconds, ceilings.least_seconds(cost.bytes, flops, dtype) / seconds};
}

void ProfileSum::add(const ProfileRow& row, const Ceilings& ceilings) {
  ++calls;
  seconds += row.seconds;
  launches += std::max(row.launches, 0.0);
  macs += row.call.cost.macs;
  bytes += row.call.cost.bytes;
  const double least = ceilings.least_seconds(row.call.cost.bytes, 2 * row.call.cost.macs, row.call.dtype());
  if (least <= 0) return;
  least_seconds += least;
  limited_seconds += row.seconds;
}

std::map<CallClass, ProfileSum> sums_by_class(const Profile& profile, const Ceilings& ceilings) {
  std::map<CallClass, ProfileSum> sums;
  for (const ProfileRow& row : profile.rows) sums[row.call.cost.kind].add(row, ceilings);
  return sums;
}

std::vector<LayerSum> sums_by_layer(const Profile& profile, const Ceilings& ceilings) {
  std::vector<LayerSum> layers;
  for (const ProfileRow& row : profile.rows) {
    auto layer = std::find_if(layers.begin(), layers.end(),
                              [&](const LayerSum& l) { return l.scope == row.call.scope; });
    if (layer == layers.end()) layer = layers.insert(layer, {row.call.scope, {}, {}});
    layer->sum.add(row, ceilings);
    layer->seconds[{row.call.cost.kind, row.call.backward}] += row.seconds;
  }
  return layers;
}

}  // namespace plume::tools
