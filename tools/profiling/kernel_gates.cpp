#include "tools/profiling/kernel_gates.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <sstream>
#include <stdexcept>

#include "engine/core/error.h"

namespace plume::tools {
namespace {

constexpr double kFewest = 20'000;      // sectors or wavefronts; less is over before it hurts
constexpr double kBriefSeconds = 5e-6;  // of memory traffic: less is not held up by it
constexpr double kBytesPerKb = 1024;

struct Gate {
  GateFigure KernelFigures::*figure;
  bool of_code;
  double allowed, noise;  // noise: relative
  bool more_is_better;
  const char* says;  // {0}: found, {1}: allowed
};
const Gate kGates[] = {
    {&KernelFigures::sectors, false, 1.1, 0.03, false,
     "{:.2f} times the sectors that its bytes need, {:.2f} are allowed"},
    {&KernelFigures::wavefronts, false, 1.1, 0.03, false,
     "{:.2f} times the wavefronts that its bytes need, {:.2f} are allowed"},
    {&KernelFigures::local, true, 0, 0, false,
     "{:.0f} bytes of a thread in local memory, {:.0f} are allowed"},
    {&KernelFigures::early, true, 0, 0, false,
     "{:.0f} loads are needed before the tensor cores are through, {:.0f} are allowed"},
    {&KernelFigures::in_flight, true, 24, 0.1, true, "{:.1f} KB an SM on their way, {:.1f} are needed"}};

void note_worst(GateFigure& figure, double value, bool more_is_better, const std::string& line,
                const std::string& launch) {
  if (more_is_better ? value < figure.value : value > figure.value) figure = {value, line, launch};
}

// Where most of what is too much is asked for.
template <class Excess>
std::string worst_line(const CountedLaunch& launch, Excess&& excess) {
  const CountedPlace* worst = nullptr;
  for (const CountedPlace& place : launch.places)
    if (!place.file.empty() && (!worst || excess(place.counts) > excess(worst->counts))) worst = &place;
  return worst ? fmt::format("{}:{}", worst->file, worst->line) : "";
}

std::string describe_launch(const CountedLaunch& l) {
  return fmt::format("grid {}x{}x{}, block {}x{}x{}", l.grid[0], l.grid[1], l.grid[2], l.block[0], l.block[1],
                     l.block[2]);
}

// Of what takes throughput, memory takes longest.
bool held_up_by_memory(const Prediction& p) {
  const double memory = std::max(p.parts[size_t(Bound::dram)], p.parts[size_t(Bound::l2)]);
  return memory > kBriefSeconds && memory >= p.parts[size_t(Bound::load_store)] &&
         memory >= p.parts[size_t(Bound::issue)] && memory >= p.parts[size_t(Bound::tensor)];
}

bool breaks(const Gate& gate, double value) {
  return gate.more_is_better ? value < gate.allowed : value > gate.allowed;
}

}  // namespace

void add_worst(KernelTable& table, const std::string& name, const CountedLaunch& launch,
               const GpuDescription& gpu, const GateOptions& options) {
  KernelFigures& figures = table[name];
  const KernelCounts c = launch.scaled_counts();
  const std::string where = describe_launch(launch);
  if (c.sectors > kFewest)
    note_worst(figures.sectors, c.sectors / c.ideal_sectors, false,
               worst_line(launch, [](const KernelCounts& k) { return k.sectors - k.ideal_sectors; }), where);
  if (c.wavefronts > kFewest)
    note_worst(figures.wavefronts, c.wavefronts / c.ideal_wavefronts, false,
               worst_line(launch, [](const KernelCounts& k) { return k.wavefronts - k.ideal_wavefronts; }),
               where);
  const CompiledCounts& code = launch.compiled;
  if (!code.known) return;
  if (code.spilled_bytes > 0 || !code.local_line.empty())
    note_worst(figures.local, std::max(code.spilled_bytes, 1.0), false, code.local_line, where);
  if (!code.early.empty())
    note_worst(figures.early, double(code.early.size()), false,
               fmt::format("{}, needed at {}", code.early[0].load, code.early[0].consumer), where);
  CountedLaunch larger = launch;
  larger.blocks = uint64_t(double(launch.blocks) * options.larger);
  const Prediction p = predict(larger, gpu);
  if (held_up_by_memory(p) && code.waits > 0)
    note_worst(figures.in_flight, bytes_in_flight_per_sm(larger, p, gpu) / kBytesPerKb, true, code.wait_line,
               where);
}

KernelTable read_debts(const std::string& memory, const std::string& code) {
  KernelTable debts;
  const auto read = [&](const std::string& text, const char* which,
                        std::vector<GateFigure KernelFigures::*> columns) {
    std::istringstream lines(text);
    int number = 0;
    for (std::string line; std::getline(lines, line);) {
      ++number;
      if (line.empty() || line.starts_with("#")) continue;
      std::vector<std::string> cells;
      for (size_t at = 0, end = 0; end != std::string::npos; at = end + 3)
        cells.push_back(line.substr(at, (end = line.find(" | ", at)) - at));
      std::string name = cells[0];
      name.erase(name.find_last_not_of(' ') + 1);
      bool fits = cells.size() == columns.size() + 1;
      for (size_t i = 0; fits && i < columns.size(); ++i) {
        if (cells[i + 1].find('-') != std::string::npos) continue;
        char* end = nullptr;
        (debts[name].*columns[i]).value = std::strtod(cells[i + 1].c_str(), &end);
        fits = end != cells[i + 1].c_str();
      }
      if (!fits)
        fail(ErrorKind::bad_input, "{}:{}: expected a kernel and {} figures between ' | ', found '{}'", which,
             number, columns.size(), line);
    }
  };
  read(memory, "kernels/debts.txt", {&KernelFigures::sectors, &KernelFigures::wavefronts});
  read(code, "kernels/code_debts.txt",
       {&KernelFigures::local, &KernelFigures::early, &KernelFigures::in_flight});
  return debts;
}

std::pair<std::string, std::string> write_debts(const KernelTable& found) {
  std::pair<std::string, std::string> texts;
  for (const auto& [name, f] : found) {
    bool memory = false, code = false;
    for (const Gate& gate : kGates) (gate.of_code ? code : memory) |= breaks(gate, (f.*gate.figure).value);
    if (memory)
      texts.first += fmt::format("{:<72} | {:.2f} | {:.2f}\n", name, f.sectors.value, f.wavefronts.value);
    if (code)
      texts.second += fmt::format("{:<72} | {} | {} | {}\n", name,
                                  f.local.value > 0 ? fmt::format("{:.0f}", f.local.value) : "-",
                                  f.early.value > 0 ? fmt::format("{:.0f}", f.early.value) : "-",
                                  f.in_flight.value < 24 ? fmt::format("{:.1f}", f.in_flight.value) : "-");
  }
  return texts;
}

std::vector<std::string> broken_gates(const KernelTable& found, const KernelTable& debts,
                                      const GateScope& scope) {
  std::vector<std::string> broken;
  static const KernelFigures none;
  for (const auto& [name, figures] : found) {
    const auto listed = debts.find(name);
    for (const Gate& gate : kGates) {
      if (!(gate.of_code ? scope.code : scope.memory)) continue;
      const GateFigure& now = figures.*gate.figure;
      const double debt =
          listed == debts.end() ? (none.*gate.figure).value : (listed->second.*gate.figure).value;
      const bool owes = breaks(gate, debt);
      const double allowed = owes ? debt : gate.allowed;
      const double worse =
          gate.more_is_better ? allowed / now.value - 1 : now.value / std::max(allowed, 1e-9) - 1;
      const char* file = gate.of_code ? "kernels/code_debts.txt" : "kernels/debts.txt";
      const std::string says = fmt::format(fmt::runtime(gate.says), now.value, allowed);
      if (worse > gate.noise)
        broken.push_back(fmt::format("{}: {}; most at {} ({})", name, says, now.line, now.launch));
      else if (owes && (worse < -2 * gate.noise && worse < 0))
        broken.push_back(fmt::format("{}: {}: it has become better; write that into {}", name, says, file));
    }
  }
  for (const auto& [name, debt] : debts)
    if (!found.contains(name)) broken.push_back(fmt::format("{}: listed with debts, but never runs", name));
  return broken;
}

}  // namespace plume::tools
