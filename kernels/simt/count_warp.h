// Warps in lockstep. The emulator runs the lanes of a warp one after the other, each leaving a trace of what
// it did; here the traces become the instructions of a warp.
//
// The traces of all lanes draw the kernel's control-flow graph, as far as it was gone through. Where lanes of
// a warp part, each way is followed to the nearest place that all ways must pass (the immediate
// post-dominator), where they go on together: the rule by which GPUs and their compilers have lanes meet
// again.
#pragma once
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "kernels/simt/emulator.h"

namespace simt::emu {

enum class EventKind : uint8_t {
  step,
  load,
  store,
  shared_load,
  shared_store,
  atomic,
  shared_atomic,
  ldmatrix,
  barrier,
  shuffle,
  mma,
  async_load,
  async_load_l1,
  async_store,
  async_wait
};

// Something that a lane did at a place of the code.
struct Event {
  uint64_t pc : 48, kind : 8, bytes : 8;
  uint64_t address;
};
using LaneTrace = std::vector<Event>;

// One instruction of a warp: the events of the lanes in `lanes`, all of one place.
struct WarpInstruction {
  uint32_t node;
  uint32_t lanes;  // mask
  const Event* events[kWarpLanes];
};

class Lockstep {
 public:
  struct Node {
    uint64_t pc;
    std::vector<uint32_t> next;
    uint32_t meeting = 0;  // immediate post-dominator
  };

  static constexpr uint32_t kEnd = 0, kStart = 1;  // before and after everything

  // Calls visit(WarpInstruction) for what the warp of these 32 traces (empty where there is no lane) did
  // since `from`: the node of the barrier before, or kStart. The traces end with the next barrier, or with
  // the kernel.
  template <class Visit>
  void replay(const LaneTrace* traces, uint32_t from, Visit&& visit) {
    translate(traces, from);
    if (changed_) find_meetings();
    uint32_t all = 0;
    for (unsigned lane = 0; lane < kWarpLanes; ++lane) {
      cursors_[lane] = 0;
      if (!traces[lane].empty()) all |= 1u << lane;
    }
    if (all) follow(traces, from, all, kEnd, visit);
  }
  uint32_t node_of(uint64_t pc);
  const std::vector<Node>& nodes() const { return nodes_; }
  void clear();

 private:
  void translate(const LaneTrace* traces, uint32_t from);
  void add_edge(uint32_t from, uint32_t to);
  void find_meetings();
  uint32_t place(unsigned lane) const {
    return cursors_[lane] < paths_[lane].size() ? paths_[lane][cursors_[lane]] : kEnd;
  }

  // From `node`, just left by all lanes of the mask, until all of them stand at `stop`.
  template <class Visit>
  void follow(const LaneTrace* traces, uint32_t node, uint32_t mask, uint32_t stop, Visit&& visit) {
    for (;;) {
      uint32_t together = 0, ended = 0, to = kEnd;
      for (uint32_t m = mask; m; m &= m - 1) {
        const auto lane = unsigned(__builtin_ctz(m));
        const uint32_t at = place(lane);
        if (at == kEnd)
          ended |= 1u << lane;
        else if (to == kEnd)
          to = at;
        if (at == to) together |= 1u << lane;
      }
      if (to == stop || to == kEnd) {
        if ((together | ended) == mask) return;
      }
      if (together == mask) {
        WarpInstruction now{to, mask, {}};
        for (uint32_t m = mask; m; m &= m - 1) {
          const auto lane = unsigned(__builtin_ctz(m));
          now.events[lane] = &traces[lane][cursors_[lane]++];
        }
        visit(now);
        node = to;
        continue;
      }
      const uint32_t meeting = nodes_[node].meeting;
      for (uint32_t rest = mask & ~ended; rest;) {
        const uint32_t first = place(unsigned(__builtin_ctz(rest)));
        uint32_t group = 0;
        for (uint32_t m = rest; m; m &= m - 1) {
          const auto lane = unsigned(__builtin_ctz(m));
          if (place(lane) == first) group |= 1u << lane;
        }
        rest &= ~group;
        if (first != meeting) follow(traces, node, group, meeting, visit);
      }
      mask &= ~ended;
      for (uint32_t m = mask; m; m &= m - 1) {
        const auto lane = unsigned(__builtin_ctz(m));
        if (place(lane) == kEnd) mask &= ~(1u << lane);
      }
      if (!mask || meeting == stop) return;
      node = meeting;
    }
  }

  std::vector<Node> nodes_ = std::vector<Node>(2);
  std::unordered_map<uint64_t, uint32_t> numbers_;
  struct Known {
    uint64_t pc = ~uint64_t(0);
    uint32_t node = 0;
  };
  static constexpr size_t kKnown = 1024;
  std::vector<Known> known_ = std::vector<Known>(kKnown);
  bool changed_ = false;
  std::vector<uint32_t> paths_[kWarpLanes];
  size_t cursors_[kWarpLanes];
};

}  // namespace simt::emu
