// The measuring half of `profile`: one network at one workload, call by call, against the machine's ceilings.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/core/kernel_slot.h"
#include "engine/memory/allocator.h"
#include "engine/profiler/gpu_model.h"
#include "engine/profiler/profiler.h"
#include "tools/profiling/ceilings.h"
#include "tools/profiling/kernel_sums.h"
#include "tools/profiling/workload.h"

namespace plume::tools {

struct ProfileRequest {
  std::string model = "mobilenet_v3_small";
  Workload workload;
  DType dtype = DType::f32;
  Device device = Device::cpu;
  ModelRun::Options options;
  double seconds = 2;  // of measured passes; half of them plain ones
};

// A variant that goes before the others wherever it fits.
struct Preference {
  KernelSlotBase* slot = nullptr;
  std::string variant;
};

// Of a call whose time was predicted: sums over its launches.
struct RowPrediction {
  KernelCounts counts;
  double low = 0, high = 0;           // seconds
  double occupancy = 0, longest = 0;  // of its longest launch; that one's seconds
  BoundSeconds parts{};
  Bound bound{}, second{};
};

struct ProfileReport {
  ProfileRequest request;
  std::string machine;  // the device in words
  int classes = 0;
  int64_t parameters = 0, macs_per_image = 0;  // of the network's forward pass
  Profile profile;
  // The same step with nobody watching, timed in turns with the watched ones; both are means over the faster
  // half of the turns.
  double alone_seconds = 0;
  MemoryStatistics memory;         // of one step
  std::vector<std::string> notes;  // what the device said about its choices
  // Predictions only (prediction.h): for which GPU, its range, and what stands behind each row.
  std::string predicted_for;
  double low_seconds = 0, high_seconds = 0;
  size_t unknown_registers = 0;            // launches whose registers nobody told
  std::vector<RowPrediction> predictions;  // one for each row, or none
  std::vector<KernelSum> kernels;
};

// Keeps the network and the measured passes, for the trace.
class ProfileRun {
 public:
  explicit ProfileRun(const ProfileRequest& request, const Preference& preference = {});
  void prepare();                // learns the calls and looks at the memory
  void plain_pass();             // timed, unwatched
  void watched_pass();           // timed call by call
  void warm_up();                // one pass, not timed
  ProfileReport report() const;  // checks the results first
  const Profiler& profiler() const { return profiler_; }

 private:
  void prefer() const;
  void pass();

  ProfileRequest request_;
  Preference preference_;
  Context& context_;
  std::unique_ptr<ModelRun> run_;
  Profiler profiler_;
  std::vector<double> alone_;
  ProfileReport report_;
};

// Warms up for at least a second (less when less is to be measured), then takes turns: a plain and a watched
// pass of each run, until `seconds` have gone by for each and a few passes are there.
void measure_in_turns(const std::vector<ProfileRun*>& runs, double seconds);

// What a row achieves; zero where there is nothing to say.
struct Achieved {
  double bytes_per_second = 0, flops_per_second = 0;
  double share_of_limit = 0;  // least time by the roofline over the time taken
};
Achieved achieved(const CallCost& cost, double seconds, DType dtype, const Ceilings& ceilings);

// The network's own multiply-adds, counted by its operations and not by their kernels.
int64_t forward_macs(const ProfileRequest& request, int classes);

// Calls follow the one in which they are nested: the place behind the last of them.
size_t end_of_call(const std::vector<ProfileCall>& calls, size_t call);

// Kernels that were launched, over all rows; -1 where they are not counted.
double launches(const Profile& profile);

// Sums of rows, by anything.
struct ProfileSum {
  int calls = 0;
  double seconds = 0, macs = 0, bytes = 0, launches = 0;
  double least_seconds = 0;    // by the roofline; of rows with a known limit
  double limited_seconds = 0;  // taken by these rows
  void add(const ProfileRow& row, const Ceilings& ceilings);
};
std::map<CallClass, ProfileSum> sums_by_class(const Profile& profile, const Ceilings& ceilings);

// Rows of one module, as the network orders them: calls in the order of their first appearance.
struct LayerSum {
  std::string scope;
  ProfileSum sum;
  std::map<std::pair<CallClass, bool>, double> seconds;  // by class and whether backward
};
std::vector<LayerSum> sums_by_layer(const Profile& profile, const Ceilings& ceilings);

}  // namespace plume::tools
