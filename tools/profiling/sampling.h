// Which blocks of a pass's launches are run to count them all.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "engine/profiler/kernel_counts.h"
#include "engine/profiler/profiler.h"

namespace plume::tools {

// Networks make the same calls again and again. A launch repeats an earlier one when their calls have the
// same slot, variant, operands and cost, they are the same kernel on the same grid at the same place in the
// call, and one block of each, the probe, did the very same. It is then not run: its counts are those of the
// other. Where blocks are long, the probe is left out (what may differ, an activation at the end, is little
// beside the rest), and fewer blocks are run, one at least of each of few layers of the grid: a long block
// averages over much already.
struct SamplingPlan {
  std::vector<uint64_t> blocks;  // of each launch; 0: it repeats another one, or its probe is enough
  std::vector<size_t> repeats;   // of each launch, the first one like it, or itself
};

// The launches of a pass, of which no block has run yet; `owners`: of each its call, or -1. 1: to be probed.
std::vector<uint64_t> plan_probes(const std::vector<ProfileCall>& calls, const std::vector<int64_t>& owners,
                                  const std::vector<CountedLaunch>& launches);
// `probes`: the launches, those blocks of them counted; `most`: blocks of a launch.
SamplingPlan plan_sampling(const std::vector<ProfileCall>& calls, const std::vector<int64_t>& owners,
                           const std::vector<CountedLaunch>& probes, uint64_t most);
// "930 of 65340 blocks ran; 201 of 513 launches repeat others", before they are completed.
std::string in_words(const SamplingPlan& plan, const std::vector<CountedLaunch>& probes,
                     const std::vector<CountedLaunch>& launches);
// Completes the launches that were not run.
void fill_in(const SamplingPlan& plan, const std::vector<CountedLaunch>& probes,
             std::vector<CountedLaunch>& launches);

}  // namespace plume::tools
