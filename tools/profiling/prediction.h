// Predicts what `profile` would measure on a GPU, from the kernels as they run on the simt device.
#pragma once
#include <functional>
#include <memory>

#include "engine/profiler/gpu_model.h"
#include "tools/profiling/profile.h"

namespace plume::tools {

// A GPU's peaks in the place of measured ceilings.
Ceilings ceilings_of(const GpuDescription& gpu);

// A pass of a network whose launches were counted, a few blocks of each.
struct CountedPass {
  std::unique_ptr<Profiler> profiler;   // knows the calls, and which launch is whose
  std::vector<CountedLaunch> launches;  // in order
  size_t unknown_registers = 0;         // launches whose registers neither report nor machine code tells
  std::string instructions_from;        // in words: what the instructions were counted in
  std::string sampling;                 // how many blocks ran, in words
  int classes = 0;
  int64_t parameters = 0;
  MemoryStatistics memory;
  std::vector<const CountedLaunch*> of_call(size_t call) const;  // without those of nested calls
};
// `blocks`: at most so many of each launch, 0 for all (sampling.h); `places`: with the lines of the source;
// `choose`: of the pass's calls the one whose kernels, and those of calls nested in it, are counted alone.
struct CountRequest {
  uint64_t blocks = 8;
  bool places = false;
  std::function<size_t(const std::vector<ProfileCall>&)> choose;
  std::string kernel_report, arch = "90";  // a file for read_kernel_report(), or empty
  std::string machine_code;                // a folder for MachineCode, or empty
};
// Throws usage when simt was built without counters.
CountedPass count_pass(const ProfileRequest& request, const GpuDescription& gpu, const CountRequest& how);

// The part of a call's DRAM traffic that takes place. Scaling a sample counts what blocks share (filters,
// halos) once for each part of the grid: no launch moves more than the call's operands but for what it says
// itself that it reads again (found_in_l2), nor does the call but for what a later launch reads again. What
// was written a moment ago is still in the L2, all of it when the operands are small beside it; and what is
// read again as far as the operands fit.
double dram_share(const CallCost& cost, const std::vector<const CountedLaunch*>& launches,
                  const GpuDescription& gpu);
// The predictions of a call's launches, without those of nested calls.
std::vector<Prediction> predict_call(const CountedPass& pass, size_t call, const GpuDescription& gpu);
// Adds them, and what was counted, to a row.
void add(RowPrediction& row, const std::vector<const CountedLaunch*>& launches,
         const std::vector<Prediction>& predictions);

struct PredictedProfile {
  ProfileReport report;
  std::unique_ptr<Profiler> profiler;  // with the predicted pass, for the trace
};

// Runs the network on the simt device, a few blocks of each launch: one of each of `blocks` parts of the
// grid. Throws usage when simt was built without counters.
PredictedProfile predict_profile(const ProfileRequest& request, const GpuDescription& gpu,
                                 const CountRequest& how);

}  // namespace plume::tools
