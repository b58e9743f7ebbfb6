// What each kernel may ask of memory at the networks' own shapes: at most a tenth more sectors and wavefronts
// than its bytes need. Kernels that do not keep to this yet are listed with their figures in
// kernels/debts.txt; a figure may only fall. Wants a build with counters.
//
// PLUME_WRITE_DEBTS=file writes the list as it would have to be.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>

#include "engine/profiler/kernel_counts.h"
#include "tests/support/test_support.h"
#include "tools/profiling/gpus.h"
#include "tools/profiling/kernel_report.h"
#include "tools/profiling/prediction.h"

namespace plume::test::kernel_gates_test {
namespace {

constexpr double kAllowed = 1.1, kNoise = 0.03;

struct GateRatios {
  double sectors = 1, wavefronts = 1;
};
using GateTable = std::map<std::string, GateRatios>;

// The worst of all launches that matter.
void add_worst(GateTable& table, const std::vector<CountedLaunch>& launches) {
  constexpr double kFewest = 20'000;  // sectors or wavefronts; less is over before it hurts
  for (const CountedLaunch& launch : launches) {
    const KernelCounts c = launch.scaled_counts();
    GateRatios& ratios = table[tools::short_kernel_name(launch.kernel)];
    if (c.sectors > kFewest) ratios.sectors = std::max(ratios.sectors, c.sectors / c.ideal_sectors);
    if (c.wavefronts > kFewest)
      ratios.wavefronts = std::max(ratios.wavefronts, c.wavefronts / c.ideal_wavefronts);
  }
}

GateTable counted_networks() {
  GateTable table;
  for (const char* model : {"mobilenet_v3_small", "resnet18", "squeezenet1_1", "shufflenet_v2_x1_0"})
    for (const bool training : {false, true}) {
      tools::ProfileRequest request;
      request.model = model;
      request.device = Device::simt;
      request.dtype = DType::bf16;
      request.workload = {.training = training, .size = 224, .batch = 8};
      add_worst(table, tools::count_pass(request, tools::find_gpu("h100"), {.blocks = 4}).launches);
    }
  return table;
}

// Lines "kernel | sectors | wavefronts"; others are prose.
GateTable read_debts(const std::string& text) {
  GateTable debts;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const size_t first = line.find(" | "), second = line.find(" | ", first + 1);
    if (line.starts_with("#") || second == std::string::npos) continue;
    std::string name = line.substr(0, first);
    name.erase(name.find_last_not_of(' ') + 1);
    debts[name] = {std::stod(line.substr(first + 3)), std::stod(line.substr(second + 3))};
  }
  return debts;
}

std::vector<std::string> broken_gates(const GateTable& found, const GateTable& debts) {
  std::vector<std::string> broken;
  const auto check = [&](const std::string& name, const char* what, double ratio, double debt) {
    const double allowed = std::max(debt, kAllowed);
    if (ratio > allowed + kNoise)
      broken.push_back(fmt::format("{}: {:.2f} times the {} that its bytes need, {:.2f} are allowed", name,
                                   ratio, what, allowed));
    if (debt > kAllowed && ratio < debt - 2 * kNoise)
      broken.push_back(
          fmt::format("{}: {:.2f} times the {}, not {:.2f}: lower the figure in kernels/debts.txt", name,
                      ratio, what, debt));
  };
  for (const auto& [name, ratios] : found) {
    const auto debt = debts.find(name);
    check(name, "sectors", ratios.sectors, debt == debts.end() ? 0 : debt->second.sectors);
    check(name, "wavefronts", ratios.wavefronts, debt == debts.end() ? 0 : debt->second.wavefronts);
  }
  for (const auto& [name, debt] : debts)
    if (!found.contains(name))
      broken.push_back(fmt::format("{}: in kernels/debts.txt, but never runs", name));
  return broken;
}

TEST(KernelGates, FindWhatIsWorseAndWhatIsBetter) {
  const GateTable debts{{"a", {2, 1}}, {"b", {1, 4}}, {"gone", {3, 3}}};
  EXPECT_TRUE(
      broken_gates({{"a", {2, 1}}, {"b", {1, 4}}, {"gone", {3, 3}}, {"new", {1.05, 1.1}}}, debts).empty());
  EXPECT_EQ(broken_gates({{"a", {2.1, 1}}, {"b", {1, 4}}, {"gone", {3, 3}}}, debts).size(), 1u);  // worse
  EXPECT_EQ(broken_gates({{"a", {1.5, 1}}, {"b", {1, 4}}, {"gone", {3, 3}}}, debts).size(), 1u);  // better
  EXPECT_EQ(broken_gates({{"a", {2, 1.3}}, {"b", {1, 4}}, {"gone", {3, 3}}}, debts).size(), 1u);  // elsewhere
  EXPECT_EQ(broken_gates({{"a", {2, 1}}, {"b", {1, 4}}}, debts).size(), 1u);                      // not run
  EXPECT_EQ(broken_gates({{"new", {1.2, 1}}}, {}).size(), 1u);
}

TEST(KernelGates, DebtsAreRead) {
  const GateTable debts = read_debts("# words | and | more\nrows<bf16, 8>   | 1.50 | 2.00\n\n");
  ASSERT_EQ(debts.size(), 1u);
  EXPECT_EQ(debts.at("rows<bf16, 8>").sectors, 1.5);
  EXPECT_EQ(debts.at("rows<bf16, 8>").wavefronts, 2);
}

TEST(KernelGates, EveryKernelKeepsThem) {
  if (!kernel_counter(Device::simt).counts_memory()) GTEST_SKIP() << "simt is built without counters";
  const GateTable found = counted_networks();
  EXPECT_GT(found.size(), 30u);
  if (const char* path = std::getenv("PLUME_WRITE_DEBTS")) {
    std::ofstream file(path);
    for (const auto& [name, ratios] : found)
      if (ratios.sectors > kAllowed || ratios.wavefronts > kAllowed)
        file << fmt::format("{:<72} | {:.2f} | {:.2f}\n", name, ratios.sectors, ratios.wavefronts);
  }
  for (const std::string& line :
       broken_gates(found, read_debts(read_file(PLUME_SOURCE_DIR "/kernels/debts.txt"))))
    ADD_FAILURE() << line;
}

}  // namespace
}  // namespace plume::test::kernel_gates_test
