#include "kernels/simt/count_warp.h"

#include <algorithm>

#include "engine/profiler/dominators.h"

namespace simt::emu {

void Lockstep::clear() {
  nodes_.assign(2, Node{});
  numbers_.clear();
  known_.assign(kKnown, Known{});
  changed_ = false;
}

uint32_t Lockstep::node_of(uint64_t pc) {
  Known& known = known_[pc / 2 % kKnown];
  if (known.pc == pc) return known.node;
  const auto [found, is_new] = numbers_.try_emplace(pc, uint32_t(nodes_.size()));
  if (is_new) {
    nodes_.push_back({});
    nodes_.back().pc = pc;
  }
  known = {pc, found->second};
  return found->second;
}

void Lockstep::add_edge(uint32_t from, uint32_t to) {
  std::vector<uint32_t>& next = nodes_[from].next;
  if (std::find(next.begin(), next.end(), to) != next.end()) return;
  next.push_back(to);
  changed_ = true;
}

// The traces as nodes, and their edges. What a trace ends with has the end for a successor: true of a
// barrier, too, for nothing before it has to look beyond it for a meeting.
void Lockstep::translate(const LaneTrace* traces, uint32_t from) {
  for (unsigned lane = 0; lane < kWarpLanes; ++lane) {
    const LaneTrace& trace = traces[lane];
    std::vector<uint32_t>& path = paths_[lane];
    path.resize(trace.size());
    uint32_t before = from;
    for (size_t i = 0; i < trace.size(); ++i) {
      const uint32_t node = node_of(trace[i].pc);
      if (nodes_[before].next.empty() || nodes_[before].next.front() != node) add_edge(before, node);
      path[i] = before = node;
    }
    if (!trace.empty()) add_edge(before, kEnd);
  }
}

// Post-dominators: dominators of the graph with its edges turned round.
void Lockstep::find_meetings() {
  changed_ = false;
  const auto count = uint32_t(nodes_.size());
  std::vector<std::vector<uint32_t>> before(count);
  for (uint32_t n = 0; n < count; ++n)
    for (const uint32_t to : nodes_[n].next) before[to].push_back(n);
  const plume::Dominators under(kEnd, before);
  for (uint32_t n = 0; n < count; ++n) nodes_[n].meeting = under.reaches(n) ? under.parent[n] : kEnd;
}

}  // namespace simt::emu
