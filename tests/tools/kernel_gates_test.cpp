// Kernels of the networks against their gates (tools/profiling/kernel_gates.h), and kernels that break one on
// purpose; tests/simt/planted_gates.cpp has those that ask for too much of memory. Wants kernels that count,
// and for what concerns machine code nvcc and nvdisasm.
//
// PLUME_WRITE_DEBTS=folder writes debts.txt and code_debts.txt there, as they would have to be.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "engine/core/error.h"
#include "tests/support/test_support.h"
#include "tests/tools/compiled_kernels.h"
#include "tools/machine_code/code_counts.h"
#include "tools/machine_code/kernel_report.h"
#include "tools/profiling/gpus.h"
#include "tools/profiling/kernel_gates.h"
#include "tools/profiling/prediction.h"

namespace plume::test::kernel_gates_test {
namespace {

using testing::HasSubstr;

tools::KernelFigures figures(double sectors, double wavefronts = 1) {
  tools::KernelFigures f;
  f.sectors.value = sectors;
  f.wavefronts.value = wavefronts;
  return f;
}

TEST(KernelGates, FindWhatIsWorseAndWhatIsBetter) {
  const tools::KernelTable debts{{"a", figures(2)}, {"b", figures(1, 4)}};
  const auto broken = [&](const tools::KernelFigures& a, const tools::KernelFigures& b) {
    return tools::broken_gates({{"a", a}, {"b", b}, {"new", figures(1.05, 1.1)}}, debts);
  };
  EXPECT_TRUE(broken(figures(2), figures(1, 4)).empty());
  EXPECT_EQ(broken(figures(2.1), figures(1, 4)).size(), 1u);              // worse
  EXPECT_EQ(broken(figures(1.5), figures(1, 4)).size(), 1u);              // better
  EXPECT_EQ(broken(figures(2, 1.3), figures(1, 4)).size(), 1u);           // elsewhere
  EXPECT_EQ(tools::broken_gates({{"a", figures(2)}}, debts).size(), 1u);  // not run
  EXPECT_EQ(tools::broken_gates({{"new", figures(1.2)}}, {}).size(), 1u);
  tools::KernelFigures code = figures(1);
  code.early.value = 2;
  code.in_flight.value = 10;
  EXPECT_EQ(tools::broken_gates({{"new", code}}, {}).size(), 2u);
  EXPECT_EQ(tools::broken_gates({{"new", code}}, {}, {.memory = true, .code = false}).size(), 0u);
  tools::KernelFigures debt = code;
  EXPECT_TRUE(tools::broken_gates({{"new", code}}, {{"new", debt}}).empty());
  code.in_flight.value = 8;
  code.early.value = 1;
  EXPECT_EQ(tools::broken_gates({{"new", code}}, {{"new", debt}}).size(), 2u);  // worse, and better
}

TEST(KernelGates, DebtsAreRead) {
  const tools::KernelTable debts = tools::read_debts(
      "# words | and | more\nrows<bf16, 8>   | 1.50 | 2.00\n\n", "rows<bf16, 8> | - | 3 | 12.5\n");
  ASSERT_EQ(debts.size(), 1u);
  const tools::KernelFigures& f = debts.at("rows<bf16, 8>");
  EXPECT_EQ(f.sectors.value, 1.5);
  EXPECT_EQ(f.wavefronts.value, 2);
  EXPECT_EQ(f.local.value, 0);
  EXPECT_EQ(f.early.value, 3);
  EXPECT_EQ(f.in_flight.value, 12.5);
  const auto [memory, code] = tools::write_debts(debts);
  EXPECT_EQ(tools::write_debts(tools::read_debts(memory, code)), std::pair(memory, code));
  EXPECT_THROW(tools::read_debts("rows | 1.5\n", ""), Error);
  EXPECT_THROW(tools::read_debts("", "rows | - | x | -\n"), Error);
}

struct Found {
  tools::KernelTable table;
  bool code = false;
};
Found counted_networks() {
  Found found;
  const GpuDescription gpu = tools::find_gpu("h100");
  const std::string folder =
      PLUME_BINARY_DIR "/sass";  // kept: what is newer than its sources is not compiled again
  found.code = write_machine_code(folder);
  for (const char* model : {"mobilenet_v3_small", "resnet18", "squeezenet1_1", "shufflenet_v2_x1_0"})
    for (const bool training : {false, true}) {
      tools::ProfileRequest request;
      request.model = model;
      request.device = Device::simt;
      request.dtype = DType::bf16;
      request.workload = {.training = training, .size = 224, .batch = 8};
      const tools::CountRequest how{.blocks = 4, .places = true, .machine_code = found.code ? folder : ""};
      for (const CountedLaunch& launch : tools::count_pass(request, gpu, how).launches)
        tools::add_worst(found.table, tools::short_kernel_name(launch.kernel), launch, gpu, {.larger = 32});
    }
  return found;
}

TEST(KernelGates, EveryKernelKeepsThem) {
  if (!kernel_counter(Device::simt).counts_memory()) GTEST_SKIP() << "simt is built without counters";
  const Found found = counted_networks();
  EXPECT_GT(found.table.size(), 30u);
  const auto [memory, code] = tools::write_debts(found.table);
  if (const char* folder = std::getenv("PLUME_WRITE_DEBTS")) {
    std::ofstream(std::string(folder) + "/debts.txt") << memory;
    std::ofstream(std::string(folder) + "/code_debts.txt") << code;
  }
  const tools::KernelTable debts = tools::read_debts(read_file(PLUME_SOURCE_DIR "/kernels/debts.txt"),
                                                     read_file(PLUME_SOURCE_DIR "/kernels/code_debts.txt"));
  for (const std::string& line :
       tools::broken_gates(found.table, debts, {.memory = true, .code = found.code}))
    ADD_FAILURE() << line;
  if (!found.code)
    std::printf("no machine code: nvcc or nvdisasm is missing (tools/kernel_report.sh --sass)\n");
}

// Kernels that break a gate of machine code on purpose, compiled by nvcc.
class PlantedKernels : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directory(folder_.path() / "kernels");
    std::ofstream(folder_.file("kernels/planted.cu"))
        << read_file(PLUME_SOURCE_DIR "/tests/tools/planted_kernels.cu.txt");
    if (!write_machine_code(folder_.file("sass"), {folder_.file("kernels/planted.cu")}))
      GTEST_SKIP() << "nvcc or nvdisasm is missing";
  }
  // What breaks when a launch of this kernel was counted so.
  std::vector<std::string> broken(const std::string& kernel, CountedLaunch launch = {}) {
    tools::MachineCode code(folder_.file("sass"), "90");
    std::vector<CountedLaunch> launches{std::move(launch)};
    launches[0].kernel = kernel;
    launches[0].block[0] = 128;
    launches[0].blocks = launches[0].counted_blocks = 100'000;
    EXPECT_EQ(tools::count_code(launches, code).unknown, 0u) << kernel;
    tools::KernelTable table;
    tools::add_worst(table, kernel, launches[0], tools::find_gpu("h100"));
    return tools::broken_gates(table, {});
  }
  // Every thread of the launch reads so many bytes in so many loads at this line, and writes one value.
  CountedLaunch streaming(int line, double loads, double bytes) {
    constexpr double kWarps = 100'000 * 4;
    CountedPlace place{folder_.file("kernels/planted.cu"), line, {}};
    place.counts.loads = loads * kWarps;
    place.counts.global_lanes = 32 * place.counts.loads;
    place.counts.global_bytes = place.counts.global_lane_bytes = bytes * place.counts.global_lanes;
    place.counts.dram_read_bytes = place.counts.l2_bytes = place.counts.global_bytes;
    CountedLaunch launch;
    launch.counts = place.counts;
    launch.places = {place};
    return launch;
  }
  int line_of(const std::string& mark) {
    const std::string text = read_file(folder_.file("kernels/planted.cu"));
    return int(std::count(text.begin(), text.begin() + std::ptrdiff_t(text.find(mark)), '\n')) + 1;
  }
  TemporaryFolder folder_;
};

TEST_F(PlantedKernels, SpilledRegisters) {
  const std::vector<std::string> found = broken("spills");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_THAT(found[0],
              HasSubstr("bytes of a thread in local memory, 0 are allowed; most at kernels/planted.cu:"));
}

TEST_F(PlantedKernels, ArraysInLocalMemory) {
  const std::vector<std::string> found = broken("array_in_memory");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_THAT(found[0], HasSubstr("in local memory, 0 are allowed; most at kernels/planted.cu:"));
}

TEST_F(PlantedKernels, PrefetchThatIsNeededTooEarly) {
  CountedLaunch turns = streaming(line_of("early load"), 64, 4);
  turns.counts.dram_read_bytes = turns.counts.l2_bytes = 0;  // memory is not what holds it up
  const std::vector<std::string> found = broken("early_consumer", turns);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_THAT(found[0],
              HasSubstr(fmt::format("1 loads are needed before the tensor cores are through, 0 are allowed; "
                                    "most at kernels/planted.cu:{}",
                                    line_of("early load"))));
  EXPECT_TRUE(broken("late_consumer", turns).empty());
}

TEST_F(PlantedKernels, TooFewBytesInFlight) {
  const std::vector<std::string> found = broken("one_by_one", streaming(line_of("one by one"), 64, 4));
  ASSERT_EQ(found.size(), 1u);
  EXPECT_THAT(found[0], HasSubstr("KB an SM on their way, 24.0 are needed; most at kernels/planted.cu:"));
  EXPECT_TRUE(broken("four_at_once", streaming(line_of("four at once"), 64, 16)).empty());
}

}  // namespace
}  // namespace plume::test::kernel_gates_test
