// Kernels that ask for too much of memory on purpose: the gates find them, and the line.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "kernels/simt/count_trace.h"
#include "tests/simt/counted_kernels.h"
#include "tools/profiling/kernel_gates.h"

namespace plume::PLUME_KERNELS {
namespace {

template <class Launch>
std::vector<std::string> broken_by(Launch&& launch) {
  simt::emu::counter().begin({});
  launch();
  tools::KernelTable table;
  for (const CountedLaunch& one : simt::emu::counter().end())
    tools::add_worst(table, "planted", one, GpuDescription{});
  return tools::broken_gates(table, {});
}

constexpr int kBlocks = 400, kThreads = 256;

struct Values {
  explicit Values(size_t count)
      : values(static_cast<float*>(std::aligned_alloc(4096, (count / 1024 + 1) * 4096)), std::free) {
    std::fill_n(values.get(), count, 1.0f);
  }
  std::unique_ptr<float, void (*)(void*)> values;
};

TEST(PlantedGates, StridedLoads) {
  const Values in(size_t(kBlocks) * kThreads * 8 + 32), out(size_t(kBlocks) * kThreads + 32);
  const auto run = [&](int stride) {
    return broken_by([&] {
      simt::launch<counted_strided>({kBlocks, kThreads, 0, {}}, static_cast<const float*>(in.values.get()),
                                    stride, 0, out.values.get());
    });
  };
  const std::vector<std::string> broken = run(8);
  ASSERT_EQ(broken.size(), 1u);
  EXPECT_NE(broken[0].find("planted: 4.5"), std::string::npos) << broken[0];  // 32 + 4 sectors for 8
  EXPECT_NE(broken[0].find("sectors that its bytes need, 1.10 are allowed"), std::string::npos) << broken[0];
  EXPECT_NE(broken[0].find("counted_kernels.h:12 (grid 400x1x1"), std::string::npos) << broken[0];
  EXPECT_TRUE(run(1).empty()) << run(1)[0];
}

TEST(PlantedGates, BankConflicts) {
  const Values out(32);
  const auto run = [&](int stride) {
    return broken_by([&] {
      simt::launch<counted_shared_stride>({12'000, 32, 0, {}}, stride, out.values.get());
    });
  };
  const std::vector<std::string> broken = run(4);
  ASSERT_EQ(broken.size(), 1u);
  EXPECT_NE(broken[0].find("planted: 4.00 times the wavefronts that its bytes need"), std::string::npos)
      << broken[0];
  EXPECT_NE(broken[0].find("counted_kernels.h:"), std::string::npos) << broken[0];
  EXPECT_TRUE(run(1).empty()) << run(1)[0];
}

}  // namespace
}  // namespace plume::PLUME_KERNELS
