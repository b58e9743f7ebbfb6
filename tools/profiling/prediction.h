// Predicts what `profile` would measure on a GPU, from the kernels as they run on the simt device.
#pragma once
#include <memory>

#include "engine/profiler/gpu_model.h"
#include "tools/profiling/profile.h"

namespace plume::tools {

// A GPU's peaks in the place of measured ceilings.
Ceilings ceilings_of(const GpuDescription& gpu);

struct PredictedProfile {
  ProfileReport report;
  std::unique_ptr<Profiler> profiler;  // with the predicted pass, for the trace
};

// Runs the network on the simt device, a few blocks of each launch: one of each of `blocks` parts of the grid.
// Throws usage when simt was built without counters.
PredictedProfile predict_profile(const ProfileRequest& request, const GpuDescription& gpu, uint64_t blocks);

}  // namespace plume::tools
