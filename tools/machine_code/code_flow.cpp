#include "tools/machine_code/code_flow.h"

#include <algorithm>

#include "engine/profiler/dominators.h"

namespace plume::tools {
namespace {

constexpr uint32_t kNone = Dominators::kNone;

void find_loops(const KernelCode& code, const Dominators& over, CodeFlow& flow) {
  for (const uint32_t header : over.order) {
    std::vector<uint8_t> inside(code.blocks.size());
    std::vector<uint32_t> open;
    for (const uint32_t from : code.blocks[header].before)
      if (over.dominates(header, from)) open.push_back(from);
    if (open.empty()) continue;
    inside[header] = 1;
    while (!open.empty()) {
      const uint32_t node = open.back();
      open.pop_back();
      if (inside[node]) continue;
      inside[node] = 1;
      for (const uint32_t from : code.blocks[node].before)
        if (over.reaches(from)) open.push_back(from);
    }
    CodeLoop& loop = flow.loops.emplace_back();
    loop.header = header;
    for (uint32_t b = 0; b < inside.size(); ++b)
      if (inside[b]) loop.blocks.push_back(b);
  }
  std::stable_sort(flow.loops.begin(), flow.loops.end(),
                   [](const CodeLoop& a, const CodeLoop& b) { return a.blocks.size() < b.blocks.size(); });
  flow.loop_of.assign(code.blocks.size(), -1);
  for (size_t l = 0; l < flow.loops.size(); ++l) {
    for (const uint32_t b : flow.loops[l].blocks)
      if (flow.loop_of[b] < 0) flow.loop_of[b] = int(l);
    for (size_t outer = l + 1; outer < flow.loops.size() && flow.loops[l].outer < 0; ++outer) {
      const auto& blocks = flow.loops[outer].blocks;
      if (std::binary_search(blocks.begin(), blocks.end(), flow.loops[l].header))
        flow.loops[l].outer = int(outer);
    }
  }
}

bool is_within(const CodeFlow& flow, int loop, int outer) {
  while (loop >= 0 && loop != outer) loop = flow.loops[size_t(loop)].outer;
  return loop == outer;
}

}  // namespace

CodeFlow analyse_flow(const KernelCode& code) {
  CodeFlow flow;
  const auto count = uint32_t(code.blocks.size());
  std::vector<std::vector<uint32_t>> forward(count), backward(count + 1);
  for (uint32_t b = 0; b < count; ++b) forward[b] = code.blocks[b].next;
  const Dominators over(0, forward);
  find_loops(code, over, flow);
  for (uint32_t b = 0; b < count; ++b) {
    for (const uint32_t to : forward[b]) backward[to].push_back(b);
    const bool may_leave = code.instructions[code.blocks[b].last - 1].opcode.starts_with("EXIT");
    if (forward[b].empty() || may_leave) backward[count].push_back(b);
  }
  const Dominators under(count, backward);

  flow.class_of.assign(count, kNone);
  const auto add_class = [&](uint32_t block) {
    flow.class_of[block] = uint32_t(flow.classes.size());
    flow.classes.emplace_back().blocks.push_back(block);
    return flow.classes.size() - 1;
  };
  for (const uint32_t b : over.order) {
    uint32_t above = b;
    while (above != 0 && flow.class_of[b] == kNone) {
      above = over.parent[above];
      if (flow.loop_of[above] == flow.loop_of[b] && under.dominates(b, above)) {
        flow.class_of[b] = flow.class_of[above];
        flow.classes[flow.class_of[b]].blocks.push_back(b);
      }
    }
    if (flow.class_of[b] != kNone) continue;
    const size_t c = add_class(b);
    if (b == 0) continue;
    const uint32_t parent = over.parent[b];
    flow.classes[c].parent = int(flow.class_of[parent]);
    flow.classes[c].loop = !is_within(flow, flow.loop_of[parent], flow.loop_of[b]);
    flow.classes[c].unlikely = code.blocks[b].unlikely;
  }
  for (uint32_t b = 0; b < count; ++b)  // functions, and what is never reached
    if (flow.class_of[b] == kNone) flow.classes[add_class(b)].callee = true;
  return flow;
}

}  // namespace plume::tools
