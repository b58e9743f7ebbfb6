// What can do one piece of work, and which of it stays: engines of cuDNN, algorithms of cuBLASLt. README.md
// says how one is chosen.
#pragma once
#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "engine/core/recording.h"
#include "engine/cuda/handles.h"
#include "engine/cuda/timer.h"

namespace plume::cuda {

// A Candidate has a `size_t workspace`: the scratch memory that it needs, in bytes.
template <class Candidate>
class Candidates {
 public:
  explicit Candidates(std::vector<Candidate> all) : all_(std::move(all)) {}

  // `execute(candidate, scratch)` gives the work to the context's stream; it does not change its operands,
  // since the first run outside a recording times all candidates on these very ones. The fastest stays, and
  // behind it the one with the least scratch memory, for when its own cannot be had. Where memory is too
  // short to time them all, later runs try again, twice at most. Throws when none can run.
  template <class Execute>
  void run(const Context& context, Execute&& execute) {
    if (choices_left_ > 0 && all_.size() > 1 && !is_recording()) choose(context, execute);
    for (size_t i = 0; i < all_.size(); ++i) {
      try {
        const Scratch scratch(all_[i].workspace);
        return execute(all_[i], scratch);
      } catch (const OutOfScratch&) {
        if (i + 1 == all_.size()) throw;
      }
    }
  }

  const Candidate& in_use() const { return all_[0]; }
  size_t size() const { return all_.size(); }  // the one in use, others to choose from or to fall back on

 private:
  // The fastest of a few runs counts, the very first left out. A candidate that cannot run is out.
  template <class Execute>
  void choose(const Context& context, Execute&& execute) {
    constexpr int kRuns = 3;
    const Timer timer;
    float best = std::numeric_limits<float>::infinity();
    size_t fastest = 0, smallest = 0;
    bool all_ran = true;
    for (size_t i = 0; i < all_.size(); ++i) {
      if (all_[i].workspace < all_[smallest].workspace) smallest = i;
      try {
        const Scratch scratch(all_[i].workspace);
        execute(all_[i], scratch);
        for (int run = 0; run < kRuns; ++run) {
          const float time = timer.milliseconds(context, [&] { execute(all_[i], scratch); });
          if (time < best) best = time, fastest = i;
        }
      } catch (const OutOfScratch&) {
        all_ran = false;
      }
    }
    --choices_left_;
    if (!all_ran && choices_left_ > 0) {  // memory may be had later; until then the fastest of the others
      const auto front = all_.begin() + std::ptrdiff_t(fastest);
      std::rotate(all_.begin(), front, front + 1);
      return;
    }
    std::vector<Candidate> kept;
    kept.push_back(std::move(all_[fastest]));
    if (smallest != fastest) kept.push_back(std::move(all_[smallest]));
    all_ = std::move(kept);
    choices_left_ = 0;
  }

  std::vector<Candidate> all_;
  int choices_left_ = 3;
};

}  // namespace plume::cuda
