// Dominators of a graph with one root (Cooper, Harvey and Kennedy): of machine code, and of what a warp's
// lanes did. With all edges turned round and the end as the root, post-dominators.
#pragma once
#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace plume {

struct Dominators {
  static constexpr uint32_t kNone = ~0u;
  std::vector<uint32_t> order;   // reachable nodes, reverse postorder
  std::vector<uint32_t> rank;    // in that order, or kNone
  std::vector<uint32_t> parent;  // immediate dominator, or kNone; the root's is the root

  Dominators(uint32_t root, const std::vector<std::vector<uint32_t>>& next) {
    const size_t count = next.size();
    rank.assign(count, kNone);
    parent.assign(count, kNone);
    std::vector<uint8_t> seen(count);
    std::vector<std::pair<uint32_t, size_t>> open{{root, 0}};
    seen[root] = 1;
    while (!open.empty()) {
      auto& [node, child] = open.back();
      if (child < next[node].size()) {
        const uint32_t to = next[node][child++];
        if (!seen[to]) {
          seen[to] = 1;
          open.emplace_back(to, 0);
        }
        continue;
      }
      order.push_back(node);
      open.pop_back();
    }
    std::reverse(order.begin(), order.end());
    for (uint32_t i = 0; i < order.size(); ++i) rank[order[i]] = i;
    std::vector<std::vector<uint32_t>> before(count);
    for (const uint32_t node : order)
      for (const uint32_t to : next[node]) before[to].push_back(node);
    parent[root] = root;
    for (bool changed = true; changed;) {
      changed = false;
      for (const uint32_t node : order) {
        if (node == root) continue;
        uint32_t common = kNone;
        for (const uint32_t from : before[node])
          if (parent[from] != kNone) common = common == kNone ? from : meet(common, from);
        if (common != parent[node]) {
          parent[node] = common;
          changed = true;
        }
      }
    }
  }
  uint32_t meet(uint32_t a, uint32_t b) const {
    while (a != b) {
      while (rank[a] > rank[b]) a = parent[a];
      while (rank[b] > rank[a]) b = parent[b];
    }
    return a;
  }
  bool reaches(uint32_t node) const { return rank[node] != kNone; }
  bool dominates(uint32_t above, uint32_t node) const {
    if (!reaches(node) || !reaches(above)) return false;
    while (rank[node] > rank[above]) node = parent[node];
    return node == above;
  }
};

}  // namespace plume
