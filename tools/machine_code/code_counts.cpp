#include "tools/machine_code/code_counts.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <tuple>

#include "tools/machine_code/kernel_report.h"

namespace plume::tools {
namespace {

constexpr double kRidge = 1e-5;  // of several solutions, one that shares out
constexpr int kSweeps = 300;
constexpr int kNearLines = 8;  // a compiler moves a load to the line that uses it
constexpr double kRarely = 0.1;

// Executions of an action at a place, and the bytes of a lane; nothing where none was counted.
struct Counted {
  double runs = 0, bytes = 0;
};
double quotient(double a, double b) { return b > 0 ? a / b : 0; }
Counted counted(const KernelCounts& c, CodeAction action) {
  switch (action) {
    case CodeAction::load:
    case CodeAction::async_load:
      return {c.loads, quotient(c.global_lane_bytes, c.global_lanes)};
    case CodeAction::store:
      return {c.stores, quotient(c.global_lane_bytes, c.global_lanes)};
    case CodeAction::shared_load:
      return {c.shared_loads - c.ldmatrix,
              c.ldmatrix > 0 ? 0 : quotient(c.shared_lane_bytes, c.shared_lanes)};
    case CodeAction::shared_store:
      return {c.shared_stores, quotient(c.shared_lane_bytes, c.shared_lanes)};
    case CodeAction::ldmatrix:
      return {c.ldmatrix, 0};
    case CodeAction::atomic:
      return {c.atomics, 0};
    case CodeAction::mma:
      return {c.mma, 0};
    case CodeAction::barrier:
      return {c.barriers, 0};
    case CodeAction::shuffle:
      return {c.shuffles, 0};
    default:
      return {};
  }
}

using Lines = std::map<std::pair<std::string, int>, KernelCounts>;
Lines counts_by_line(const CountedLaunch& launch) {
  Lines lines;
  for (const CountedPlace& place : launch.places)
    lines[{source_label(place.file), place.line}] += place.counts;
  return lines;
}

// The line of the chain at which the action was counted: the innermost one, or one close to it.
std::optional<std::pair<std::string, int>> find_line(const Lines& lines, const std::vector<CodePlace>& chain,
                                                     CodeAction action) {
  for (const CodePlace& place : chain)
    if (const auto at = lines.find({place.file, place.line});
        at != lines.end() && counted(at->second, action).runs > 0)
      return at->first;
  for (const CodePlace& place : chain) {
    std::optional<std::pair<std::string, int>> best;
    for (auto at = lines.lower_bound({place.file, place.line - kNearLines});
         at != lines.end() && at->first.first == place.file && at->first.second <= place.line + kNearLines;
         ++at)
      if (counted(at->second, action).runs > 0 &&
          (!best || std::abs(at->first.second - place.line) < std::abs(best->second - place.line)))
        best = at->first;
    if (best) return best;
  }
  return std::nullopt;
}

struct Equation {
  std::map<uint32_t, double> factors;  // by class
  double runs = 0;
  bool known = false;
};

// Every line and action that was counted, and what the machine code has of each; what finds no line shares
// one equation with what no code is found for.
std::vector<Equation> equations_of(const KernelCode& code, const CodeFlow& flow, const Lines& lines,
                                   double& matched) {
  using Key = std::tuple<std::string, int, CodeAction>;
  std::map<Key, Equation> equations;
  std::map<Key, std::vector<std::pair<uint32_t, unsigned>>> instructions;  // classes and bytes
  for (uint32_t b = 0; b < code.blocks.size(); ++b)
    for (uint32_t i = code.blocks[b].first; i < code.blocks[b].last; ++i) {
      const MachineInstruction& instruction = code.instructions[i];
      CodeAction action = instruction.action;
      if (action == CodeAction::none || action == CodeAction::local) continue;
      if (action == CodeAction::async_load) action = CodeAction::load;
      const auto line = find_line(lines, code.chains[instruction.chain], action);
      // A predicate that never holds, and the block runs all the same.
      if (!line && instruction.predicated) continue;
      const Key key = line ? Key{line->first, line->second, action} : Key{"", 0, action};
      instructions[key].emplace_back(flow.class_of[b], instruction.bytes);
    }
  double all = 0, found = 0;
  for (const auto& [line, counts] : lines)
    for (int a = int(CodeAction::load); a <= int(CodeAction::shuffle); ++a) {
      const CodeAction action = CodeAction(a);
      const double runs = action == CodeAction::async_load ? 0 : counted(counts, action).runs;
      if (runs <= 0) continue;
      const Key key{line.first, line.second, action};
      all += runs;
      found += instructions.contains(key) ? runs : 0;
      Equation& equation = equations[instructions.contains(key) ? key : Key{"", 0, action}];
      equation.runs += runs;
    }
  for (const auto& [key, list] : instructions) {
    const auto& [file, number, action] = key;
    unsigned narrowest = 16;
    for (const auto& [c, bytes] : list) narrowest = std::min(narrowest, bytes);
    double width = narrowest;  // of the source's access; several may have become one wide instruction
    if (!file.empty())
      if (const double bytes = counted(lines.at({file, number}), action).bytes; bytes > 0) width = bytes;
    Equation& equation = equations[key];
    for (const auto& [c, bytes] : list) equation.factors[c] += std::max(double(bytes) / width, 1.0);
  }
  matched = all > 0 ? found / all : 1;
  std::vector<Equation> result;
  for (auto& [key, equation] : equations)
    if (!equation.factors.empty()) result.push_back(std::move(equation));
  return result;
}

// Coordinate descent; no class runs more often than its `most`. Unknowns that no equation names stay below
// zero.
std::vector<double> solve(const std::vector<Equation>& equations, const std::vector<double>& most,
                          double warps) {
  const size_t classes = most.size();
  std::vector<double> runs(classes, -1);
  struct Term {
    size_t equation;
    double factor;
  };
  std::vector<std::vector<Term>> terms(classes);
  std::vector<double> missing(equations.size());
  for (size_t e = 0; e < equations.size(); ++e) {
    // What was never counted weighs little: its line may be another one.
    const double scale = equations[e].runs > 0 ? std::max(equations[e].runs, 0.05 * warps) : warps;
    missing[e] = equations[e].runs / scale;
    for (const auto& [c, factor] : equations[e].factors) {
      terms[c].push_back({e, factor / scale});
      runs[c] = 0;
    }
  }
  runs[0] = warps;
  for (const Term& t : terms[0]) missing[t.equation] -= t.factor * warps;
  for (int sweep = 0; sweep < kSweeps; ++sweep)
    for (size_t c = 1; c < classes; ++c) {
      if (terms[c].empty()) continue;
      double pull = 0, weight = 0;
      for (const Term& t : terms[c]) {
        pull += t.factor * (missing[t.equation] + t.factor * runs[c]);
        weight += t.factor * t.factor;
      }
      const double better = std::clamp(pull / (weight * (1 + kRidge)), 0.0, most[c]);
      for (const Term& t : terms[c]) missing[t.equation] -= t.factor * (better - runs[c]);
      runs[c] = better;
    }
  return runs;
}

using LineNumber = std::pair<std::string, int>;

// How often classes without accesses ran: as their parents did, times what the branches counted at their
// lines say. A line that the compiler has copied shares its count with its copies.
class Branches {
 public:
  Branches(const KernelCode& code, const CodeFlow& flow, const Lines& lines) : flow_(flow), lines_(lines) {
    for (size_t c = 0; c < flow.classes.size(); ++c) {
      std::map<LineNumber, size_t>& found = of_class_.emplace_back();
      for (const uint32_t b : flow.classes[c].blocks)
        for (uint32_t i = code.blocks[b].first; i < code.blocks[b].last; ++i) {
          const auto& chain = code.chains[code.instructions[i].chain];
          if (!chain.empty()) found[{chain[0].file, chain[0].line}] += 1;
        }
      if (flow.classes[c].callee) continue;
      for (const auto& [line, instructions] : found) classes_of_[line].push_back(c);
    }
  }
  // At most as often as its branches were met, and as what decides about it. Copies of a line, as before a
  // loop and in it, are told apart by that.
  std::vector<double> most(double warps) const {
    std::vector<double> most(flow_.classes.size(), std::numeric_limits<double>::infinity());
    most[0] = warps;
    for (size_t c = 1; c < most.size(); ++c) {
      const CodeFlow::Class& one = flow_.classes[c];
      if (one.callee) continue;
      if (!one.loop) most[c] = most[size_t(one.parent)];
      for (const auto& [line, n] : of_class_[c])
        if (const auto at = lines_.find(line); at != lines_.end() && at->second.steps > 0)
          most[c] = std::min(most[c], at->second.steps);
    }
    return most;
  }
  // Those that are not `solved` (below zero). Parents' runs may follow from others in turn.
  void fill_in(const std::vector<double>& solved, std::vector<double>& runs) const {
    constexpr int kDeepest = 8;  // loops in loops
    for (int round = 0; round < kDeepest; ++round) {
      const std::vector<double> before = runs;
      for (size_t c = 1; c < flow_.classes.size(); ++c) {
        const CodeFlow::Class& one = flow_.classes[c];
        if (solved[c] >= 0 || one.callee) continue;
        const double parent = runs[size_t(one.parent)];
        runs[c] = one.unlikely ? 0 : round == 0 ? parent : turns(c, parent, solved, before);
      }
      if (round > 0 && runs == before) return;
    }
  }

 private:
  double turns(size_t c, double parent, const std::vector<double>& solved,
               const std::vector<double>& runs) const {
    const bool loop = flow_.classes[c].loop;
    if (!loop) return std::min(by_lines(c, parent, runs), parent);
    // What a loop decides about and has accesses runs once a turn, or less often.
    double turns = 0;
    for (size_t child = c + 1; child < flow_.classes.size(); ++child)
      if (size_t(flow_.classes[child].parent) == c && !flow_.classes[child].loop)
        turns = std::max(turns, solved[child]);
    return std::max(turns > 0 ? turns : by_lines(c, parent, runs), parent);
  }
  // Of its lines the one that was met least often; no branch ran more often than it was met.
  double by_lines(size_t c, double parent, const std::vector<double>& runs) const {
    size_t instructions = 0;
    double least = -1;
    for (const auto& [line, n] : of_class_[c]) {
      instructions += n;
      const auto at = lines_.find(line);
      if (at == lines_.end() || at->second.steps <= 0) continue;
      const double times =
          std::min(at->second.steps, parent * quotient(at->second.steps, met(line, c, runs)));
      least = least < 0 ? times : std::min(least, times);
    }
    if (least >= 0) return least;
    constexpr size_t kShort = 8;  // such a branch may be none in the host's code
    return parent * (instructions <= kShort ? 0.5 : flow_.classes[c].loop ? 1.0 : kRarely);
  }
  // How often the classes that a line is in could have run. What c decides about has its own share of that.
  double met(const LineNumber& line, size_t c, const std::vector<double>& runs) const {
    double times = 0;
    for (const size_t d : classes_of_.at(line))
      if (!decides(c, d)) times += runs[size_t(flow_.classes[d].parent)];
    return times;
  }
  bool decides(size_t above, size_t c) const {
    int at = flow_.classes[c].parent;
    while (at > int(above)) at = flow_.classes[size_t(at)].parent;
    return at == int(above);
  }

  const CodeFlow& flow_;
  const Lines& lines_;
  std::vector<std::map<LineNumber, size_t>> of_class_;  // and how many instructions are of the line
  std::map<LineNumber, std::vector<size_t>> classes_of_;
};

}  // namespace

CodeRuns runs_of(const KernelCode& code, const CodeFlow& flow, const CountedLaunch& launch) {
  const double warps = double(launch.counted_blocks) * launch.warps();
  const Lines lines = counts_by_line(launch);
  CodeRuns result;
  const std::vector<Equation> equations = equations_of(code, flow, lines, result.matched);
  const Branches branches(code, flow, lines);
  const std::vector<double> solved = solve(equations, branches.most(warps), warps);
  std::vector<double> runs = solved;
  branches.fill_in(solved, runs);
  result.of_block.assign(code.blocks.size(), 0);
  for (size_t c = 0; c < flow.classes.size(); ++c)
    for (const uint32_t b : flow.classes[c].blocks) result.of_block[b] = std::max(runs[c], 0.0);
  // A function runs from its first block to the next one's.
  for (uint32_t b = 0; b < code.blocks.size(); ++b)
    for (uint32_t callee : code.blocks[b].calls)
      for (const double calls = result.of_block[b];
           callee < code.blocks.size() && flow.classes[flow.class_of[callee]].callee; ++callee) {
        result.of_block[callee] += calls;
        if (code.blocks[callee].next.empty()) break;
      }
  return result;
}

void count_code(CountedLaunch& launch, const AnalysedKernel& kernel) {
  const KernelCode& code = *kernel.code;
  const CodeRuns runs = runs_of(code, kernel.flow, launch);
  CompiledCounts& compiled = launch.compiled;
  compiled = {};
  compiled.known = true;
  compiled.spilled_bytes = code.spilled_bytes;
  launch.registers = code.registers;
  std::map<std::pair<std::string, int>, size_t> places;
  std::string root;  // that the host's compiler saw the sources below
  for (size_t p = 0; p < launch.places.size(); ++p) {
    launch.places[p].counts.instructions = 0;
    const std::string &path = launch.places[p].file, label = source_label(path);
    if (label != path) root = path.substr(0, path.size() - label.size());
    places[{label, launch.places[p].line}] = p;
  }
  const auto place_of = [&](const std::vector<CodePlace>& chain) {
    for (const CodePlace& place : chain)
      if (const auto at = places.find({place.file, place.line}); at != places.end()) return at->second;
    const CodePlace place = chain.empty() ? CodePlace{} : chain[0];
    launch.places.push_back({place.file.empty() ? "" : root + place.file, place.line, {}});
    places[{place.file, place.line}] = launch.places.size() - 1;
    return launch.places.size() - 1;
  };
  std::vector<size_t> place_of_chain(code.chains.size(), SIZE_MAX);
  launch.counts.instructions = 0;
  for (uint32_t b = 0; b < code.blocks.size(); ++b)
    for (uint32_t i = code.blocks[b].first; i < code.blocks[b].last; ++i) {
      const MachineInstruction& instruction = code.instructions[i];
      size_t& place = place_of_chain[instruction.chain];
      if (place == SIZE_MAX) place = place_of(code.chains[instruction.chain]);
      const double times = runs.of_block[b];
      launch.places[place].counts.instructions += times;
      launch.counts.instructions += times;
      compiled.instructions[size_t(instruction.pipe)] += times;
      if (instruction.action != CodeAction::local) continue;
      compiled.local_instructions += times;
      if (compiled.local_line.empty()) compiled.local_line = to_text(code.chains[instruction.chain]);
    }
  const double bytes = quotient(launch.counts.global_bytes, launch.counts.requests());
  const double widest = quotient(launch.counts.global_lane_bytes, launch.counts.global_lanes);
  const LoadWaits waits = waits_of(code, runs.of_block, widest > 0 ? bytes / widest : 32);
  compiled.waits = waits.waits;
  compiled.waited_bytes = waits.waited_bytes;
  const auto line_of = [&](uint32_t i) { return to_text(code.chains[code.instructions[i].chain]); };
  if (waits.waits > 0) compiled.wait_line = line_of(waits.most);
  const auto ran = [&](uint32_t i) {
    for (uint32_t b = 0; b < code.blocks.size(); ++b)
      if (i < code.blocks[b].last) return runs.of_block[b] > 0;
    return false;
  };
  for (const EarlyConsumer& e : early_consumers(code, kernel.flow))
    if (ran(e.load))
      compiled.early.push_back({line_of(e.load), line_of(e.consumer), e.tensor_before, e.tensor_in_loop});
}

CodeCoverage count_code(std::vector<CountedLaunch>& launches, MachineCode& machine_code) {
  struct Known : AnalysedKernel {
    bool older = false;
  };
  std::map<std::string, Known> kernels;
  CodeCoverage coverage;
  for (CountedLaunch& launch : launches) {
    const std::string name = short_kernel_name(launch.kernel);
    auto [known, is_new] = kernels.try_emplace(name);
    Known& kernel = known->second;
    if (is_new && (kernel.code = machine_code.find(name))) {
      kernel.flow = analyse_flow(*kernel.code);
      std::set<std::string> sources;
      for (const CountedPlace& place : launch.places) sources.insert(place.file);
      kernel.older = std::any_of(sources.begin(), sources.end(), [&](const std::string& source) {
        return machine_code.is_older(name, source);
      });
    }
    if (kernel.code) count_code(launch, kernel);
    coverage.unknown += !kernel.code;
    coverage.older += kernel.older;
  }
  return coverage;
}

}  // namespace plume::tools
