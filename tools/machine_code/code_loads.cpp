#include "tools/machine_code/code_loads.h"

#include <algorithm>
#include <optional>

namespace plume::tools {
namespace {

constexpr unsigned kTogether = 32;  // loads issued within so many instructions arrive together
constexpr int kPasses = 4;          // around loops, until what is on its way at each block's begin is known

struct Outstanding {
  uint32_t load = 0;
  unsigned age = 0;    // instructions since
  unsigned group = 0;  // of an asynchronous copy: later groups committed since
  bool committed = false;
  bool operator==(const Outstanding& other) const { return load == other.load; }
};
using Window = std::vector<Outstanding>;

bool names(const std::vector<uint16_t>& registers, const std::vector<uint16_t>& wanted) {
  return std::any_of(wanted.begin(), wanted.end(), [&](uint16_t r) {
    return std::find(registers.begin(), registers.end(), r) != registers.end();
  });
}

// "DEPBAR.LE SB0, 0x1": all copies but those of the last so many groups have come.
std::optional<unsigned> groups_left(const MachineInstruction& i) {
  if (!i.opcode.starts_with("DEPBAR.LE")) return std::nullopt;
  const size_t comma = i.operands.find("0x");
  return comma == std::string::npos ? 0u : unsigned(std::stoul(i.operands.substr(comma), nullptr, 16));
}

// Does this instruction need what the load has loaded?
bool needs(const KernelCode& code, const MachineInstruction& i, const Outstanding& one) {
  const MachineInstruction& load = code.instructions[one.load];
  if (load.action == CodeAction::async_load) {
    const auto left = groups_left(i);
    return left && one.committed && one.group >= *left;
  }
  return names(load.writes, i.reads) || names(load.writes, i.writes);
}

void step(const MachineInstruction& i, Window& window) {
  for (Outstanding& one : window) {
    ++one.age;
    if (!i.opcode.starts_with("LDGDEPBAR")) continue;
    if (one.committed) ++one.group;
    one.committed = true;
  }
}

bool is_load(const MachineInstruction& i) {
  return i.action == CodeAction::load || i.action == CodeAction::async_load;
}

}  // namespace

LoadWaits waits_of(const KernelCode& code, const std::vector<double>& runs, double lanes) {
  LoadWaits result;
  double most = -1;
  std::vector<Window> after(code.blocks.size());
  for (int pass = 0; pass < kPasses; ++pass)
    for (uint32_t b = 0; b < code.blocks.size(); ++b) {
      Window window;
      for (const uint32_t from : code.blocks[b].before)
        for (const Outstanding& one : after[from]) {
          if (runs[from] <= 0) continue;
          const auto known = std::find(window.begin(), window.end(), one);
          if (known == window.end())
            window.push_back(one);
          else
            known->age = std::min(known->age, one.age);
        }
      for (uint32_t at = code.blocks[b].first; at < code.blocks[b].last; ++at) {
        const MachineInstruction& i = code.instructions[at];
        unsigned youngest = 0;
        bool waits = false;
        for (const Outstanding& one : window)
          if (needs(code, i, one)) {
            youngest = waits ? std::min(youngest, one.age) : one.age;
            waits = true;
          }
        if (waits) {
          double bytes = 0;
          for (const Outstanding& one : window) bytes += code.instructions[one.load].bytes * lanes;
          if (pass == kPasses - 1) {
            result.waits += runs[b];
            result.waited_bytes += runs[b] * bytes;
            if (runs[b] > most) {
              most = runs[b];
              result.most = at;
            }
          }
          std::erase_if(window, [&](const Outstanding& one) {
            return one.age + kTogether >= youngest || needs(code, i, one);
          });
        }
        step(i, window);
        if (is_load(i)) {
          std::erase_if(window, [&](const Outstanding& one) { return one.load == at; });
          window.push_back({at, 0, 0, false});
        }
      }
      after[b] = std::move(window);
    }
  return result;
}

std::vector<EarlyConsumer> early_consumers(const KernelCode& code, const CodeFlow& flow) {
  std::vector<EarlyConsumer> early;
  std::vector<uint8_t> around(flow.loops.size());   // a loop that has both
  for (size_t l = 0; l < flow.loops.size(); ++l) {  // inner ones first
    std::vector<uint32_t> body;                     // instructions, in the order in which they stand
    int tensor = 0, loads = 0;
    for (const uint32_t b : flow.loops[l].blocks)
      for (uint32_t i = code.blocks[b].first; i < code.blocks[b].last; ++i) {
        body.push_back(i);
        tensor += code.instructions[i].action == CodeAction::mma;
        loads += is_load(code.instructions[i]);
      }
    const bool here = tensor > 0 && loads > 0 && !around[l];
    if ((here || around[l]) && flow.loops[l].outer >= 0) around[size_t(flow.loops[l].outer)] = 1;
    if (!here) continue;
    for (size_t at = 0; at < body.size(); ++at) {
      if (!is_load(code.instructions[body[at]])) continue;
      Window one{{body[at], 0, 0, false}};
      int before = 0;
      for (size_t k = 1; k <= body.size(); ++k) {  // to the same place of the next turn
        const uint32_t then = body[(at + k) % body.size()];
        const MachineInstruction& i = code.instructions[then];
        if (needs(code, i, one[0])) {
          if (2 * before < tensor) early.push_back({body[at], then, before, tensor});
          break;
        }
        step(i, one);
        before += i.action == CodeAction::mma;
      }
    }
  }
  return early;
}

}  // namespace plume::tools
