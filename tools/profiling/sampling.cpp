#include "tools/profiling/sampling.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>

#include "engine/core/error.h"

namespace plume::tools {
namespace {

// Pieces of straight code, summed over lanes, that the blocks of a launch may run: about a second's.
constexpr double kAffordable = 8e6;
constexpr uint64_t kFewLayers = 4;
// Multiply-adds of a block that is long: sixty thousand of each of 256 threads.
constexpr double kLong = 16e6;

// What a launch and its call must share with another one, as far as that is known before it runs.
std::vector<std::string> identities(const std::vector<ProfileCall>& calls, const std::vector<int64_t>& owners,
                                    const std::vector<CountedLaunch>& launches) {
  const auto extents = [](const unsigned(&d)[3]) { return message("{} {} {}", d[0], d[1], d[2]); };
  std::vector<std::string> all;
  size_t place = 0;  // among the launches of a call
  for (size_t i = 0; i < launches.size(); ++i) {
    place = i > 0 && owners[i] == owners[i - 1] ? place + 1 : 0;
    const CountedLaunch& launch = launches[i];
    std::string& text = all.emplace_back(
        message("{}|{}|{}|{}", launch.kernel, extents(launch.grid), extents(launch.block), place));
    if (owners[i] < 0) continue;
    const ProfileCall& call = calls[size_t(owners[i])];
    text += message("|{}/{}|{} {}|", call.slot, call.variant, call.cost.macs, call.cost.bytes);
    for (const ProfileOperand& o : call.operands)
      text += message("{}{}{}", name(o.dtype), to_string(o.shape), o.written ? "w" : "");
  }
  return all;
}

std::string deeds(const KernelCounts& c) {
  return message("|{} {} {} {} {} {}", c.steps, c.step_lanes, c.sectors, c.wavefronts, c.global_bytes,
                 c.instructions);
}

// A few layers of a grid may be there to do different things (input gradients at stride 2: pixels that one,
// two or four taps reach). As many blocks as layers are one of each.
uint64_t blocks_to_run(const CountedLaunch& probe, uint64_t most) {
  const uint64_t layers = probe.grid[2], fewest = layers <= kFewLayers ? layers : 1;
  const double affordable = kAffordable / std::max(probe.counts.step_lanes, 1.0);
  return std::min(std::max<uint64_t>(uint64_t(std::min(affordable, double(most))), fewest), most);
}

}  // namespace

std::vector<uint64_t> plan_probes(const std::vector<ProfileCall>& calls, const std::vector<int64_t>& owners,
                                  const std::vector<CountedLaunch>& launches) {
  const std::vector<std::string> known = identities(calls, owners, launches);
  std::set<std::string> seen;
  std::vector<uint64_t> probes;
  for (size_t i = 0; i < launches.size(); ++i) {
    const double macs = owners[i] >= 0 ? calls[size_t(owners[i])].cost.macs : 0;
    const bool is_new = seen.insert(known[i]).second;
    probes.push_back(is_new || macs < kLong * double(launches[i].blocks) ? 1 : 0);
  }
  return probes;
}

SamplingPlan plan_sampling(const std::vector<ProfileCall>& calls, const std::vector<int64_t>& owners,
                           const std::vector<CountedLaunch>& probes, uint64_t most) {
  SamplingPlan plan;
  const std::vector<std::string> known = identities(calls, owners, probes);
  std::map<std::string, size_t> first, first_probed;
  for (size_t i = 0; i < probes.size(); ++i) {
    size_t like = first.try_emplace(known[i], i).first->second;
    if (probes[i].counted_blocks > 0)
      like = first_probed.try_emplace(known[i] + deeds(probes[i].counts), i).first->second;
    const uint64_t blocks = blocks_to_run(probes[i], most);
    const bool probe_is_enough = blocks <= probes[i].counted_blocks;
    plan.repeats.push_back(like);
    plan.blocks.push_back(like != i || probe_is_enough ? 0 : blocks);
  }
  return plan;
}

std::string in_words(const SamplingPlan& plan, const std::vector<CountedLaunch>& probes,
                     const std::vector<CountedLaunch>& launches) {
  uint64_t run = 0, all = 0, repeats = 0;
  for (const CountedLaunch& probe : probes) run += probe.counted_blocks;
  for (const CountedLaunch& launch : launches) {
    run += launch.counted_blocks;
    all += launch.blocks;
  }
  for (size_t i = 0; i < plan.repeats.size(); ++i) repeats += plan.repeats[i] != i;
  return message("{} of {} blocks ran; {} of {} launches repeat others", run, all, repeats, launches.size());
}

void fill_in(const SamplingPlan& plan, const std::vector<CountedLaunch>& probes,
             std::vector<CountedLaunch>& launches) {
  if (launches.size() != plan.repeats.size())
    fail(ErrorKind::internal, "profile: {} launches were planned, {} counted", plan.repeats.size(),
         launches.size());
  for (size_t i = 0; i < launches.size(); ++i) {
    if (plan.repeats[i] != i)
      launches[i] = launches[plan.repeats[i]];
    else if (plan.blocks[i] == 0)
      launches[i] = probes[i];
  }
}

}  // namespace plume::tools
