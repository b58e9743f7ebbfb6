// Planted mistakes are found by the emulator's checks, by poisoned shared memory or by the sanitizers.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "tests/simt/planted_kernels.h"
#include "tests/simt/waiting_kernels.h"

namespace plume::PLUME_KERNELS {
namespace {

class PlantedBug : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    testing::FLAGS_gtest_death_test_style = "fast";
    simt::emu::options().reverse = GetParam();
  }
  void TearDown() override { simt::emu::options().reverse = false; }
  std::vector<float> out_ = std::vector<float>(64);
};
INSTANTIATE_TEST_SUITE_P(Order, PlantedBug, testing::Bool(),
                         [](const auto& p) { return p.param ? "reversed" : "normal"; });

#if SIMT_ASAN
constexpr const char* kNeedsAsan = "";
#else
constexpr const char* kNeedsAsan = "found by the address sanitizer, and this build has none (preset asan)";
#endif

TEST_P(PlantedBug, ReadPastGlobalMemory) {
  if (*kNeedsAsan) GTEST_SKIP() << kNeedsAsan;
  const auto x = std::make_unique<float[]>(32);
  EXPECT_DEATH(
      simt::launch<read_past_global>({1, 32, 0, {}}, static_cast<const float*>(x.get()), out_.data()),
      "heap-buffer-overflow");
}

TEST_P(PlantedBug, WritePastSharedArray) {
  if (*kNeedsAsan) GTEST_SKIP() << kNeedsAsan;
  EXPECT_DEATH(simt::launch<write_past_shared>({1, 32, 0, {}}, out_.data(), 4),
               "use-after-poison|out of bounds");
}

TEST_P(PlantedBug, WritePastDynamicSharedMemory) {
  if (*kNeedsAsan) GTEST_SKIP() << kNeedsAsan;
  EXPECT_DEATH(simt::launch<write_past_dynamic>({1, 1, 100, {}}, 100), "use-after-poison");
}

// What the preset keeps of the undefined sanitizer, and a null pointer, which it leaves to the other one.
TEST_P(PlantedBug, MisalignedPack) {
  if (*kNeedsAsan) GTEST_SKIP() << kNeedsAsan;
  alignas(16) const float x[48] = {};
  EXPECT_DEATH(simt::launch<misaligned_pack>({1, 32, 0, {}}, static_cast<const float*>(x), out_.data()),
               "misaligned address");
}

TEST_P(PlantedBug, ReadThroughNull) {
  if (*kNeedsAsan) GTEST_SKIP() << kNeedsAsan;
  EXPECT_DEATH(
      simt::launch<read_through_null>({1, 1, 0, {}}, static_cast<const float*>(nullptr), out_.data()),
      "SEGV on unknown address");
}

TEST_P(PlantedBug, SignedOverflow) {
  if (*kNeedsAsan) GTEST_SKIP() << kNeedsAsan;
  std::vector<int> out(1);
  EXPECT_DEATH(simt::launch<signed_overflow>({1, 32, 0, {}}, std::numeric_limits<int>::max(), out.data()),
               "signed integer overflow");
}

TEST_P(PlantedBug, WildShift) {
  if (*kNeedsAsan) GTEST_SKIP() << kNeedsAsan;
  std::vector<int> out(1);
  EXPECT_DEATH(simt::launch<wild_shift>({1, 64, 0, {}}, out.data()), "shift exponent .* is too large");
}

TEST_P(PlantedBug, DivergentBarrier) {
  EXPECT_DEATH(
      simt::launch<divergent_barrier>({1, 64, 0, {}}, out_.data()),
      "kernel .*divergent_barrier: divergent __syncthreads.*\n.*block \\(0,0,0\\) thread \\(.*,0,0\\) at "
      ".*planted_kernels.h:[0-9]+");
}

TEST_P(PlantedBug, WaitForALaterBlock) {
  std::vector<unsigned> words(6);
  std::vector<float> values(5 * 64);
  EXPECT_DEATH(
      (simt::launch<hand_on<true, Waits::for_the_next>>({5, 64, 0, {}}, words.data(), values.data())),
      "kernel .*hand_on.*: deadlock: waits for a flag that no block before this one has set\n.*"
      "block \\(.*,0,0\\) thread \\(0,0,0\\) at .*block_order.h:[0-9]+");
}

TEST_P(PlantedBug, EarlyExitBeforeBarrier) {
  EXPECT_DEATH(simt::launch<early_exit>({1, 64, 0, {}}, out_.data(), 50u), "kernel .*early_exit: early exit");
}

TEST_P(PlantedBug, BarrierInOneWarpOnly) {
  EXPECT_DEATH(simt::launch<barrier_in_one_warp>({1, 64, 0, {}}, out_.data()), "early exit|not in the mask");
}

TEST_P(PlantedBug, MissingLane) {
  EXPECT_DEATH(simt::launch<missing_lane>({1, 32, 0, {}}, out_.data()),
               "kernel .*missing_lane: deadlock(.|\n)*waits in __shfl_xor_sync at .*planted_kernels.h");
}

TEST_P(PlantedBug, CallingLaneOutsideMask) {
  EXPECT_DEATH(simt::launch<lane_outside_mask>({1, 32, 0, {}}, out_.data()),
               "calling lane .* is not in the mask");
}

TEST_P(PlantedBug, SourceLaneOutsideMask) {
  EXPECT_DEATH(simt::launch<source_outside_mask>({1, 32, 0, {}}, out_.data()),
               "reads lane 20, which is not in");
}

TEST_P(PlantedBug, MixedWarpOperations) {
  EXPECT_DEATH(simt::launch<mixed_operations>({1, 32, 0, {}}, out_.data()),
               "kernel .*mixed_operations: mixed warp operations");
}

TEST_P(PlantedBug, UninitialisedSharedMemoryIsNan) {
  for (int repeat = 0; repeat < 2; ++repeat) {  // nothing is left over from the block before
    simt::launch<uninitialised_shared>({2, 64, 0, {}}, out_.data());
    EXPECT_EQ(out_[31], 1.0f);
    EXPECT_TRUE(std::isnan(out_[32]));
  }
}

TEST_P(PlantedBug, ForgottenBarrierShowsInTheValuesInOneOrder) {
  // One warp runs as far as it can before the next: in each order one half reads what is not there yet.
  simt::launch<shared_neighbour<false>>({1, 64, 0, {}}, out_.data());
  EXPECT_TRUE(std::isnan(out_[GetParam() ? 63 : 0]));
}

class PlantedCopyBug : public PlantedBug {
 protected:
  template <CopyBug kBug>
  void run() {
    simt::launch<copy_two_groups<kBug>>({1, 32, 0, {}}, in_.data(), out_.data());
  }
  std::vector<float> in_ = std::vector<float>(64, 2.0f);
};
INSTANTIATE_TEST_SUITE_P(Order, PlantedCopyBug, testing::Bool(),
                         [](const auto& p) { return p.param ? "reversed" : "normal"; });

TEST_P(PlantedCopyBug, NoneInTheCorrectKernel) {
  run<CopyBug::none>();
  for (int i = 0; i < 32; ++i) EXPECT_EQ(out_[size_t(i)], 4.0f);
}

TEST_P(PlantedCopyBug, ReadBeforeTheWaitIsNan) {
  run<CopyBug::reads_early>();
  EXPECT_TRUE(std::isnan(out_[0]) && std::isnan(out_[31]));
}

TEST_P(PlantedCopyBug, WaitForTooFewGroupsIsNan) {
  run<CopyBug::too_many_groups>();
  EXPECT_TRUE(std::isnan(out_[0]) && std::isnan(out_[31]));
}

TEST_P(PlantedCopyBug, MissingWait) {
  EXPECT_DEATH(
      run<CopyBug::no_wait>(),
      "kernel .*copy_two_groups.*: cp.async: the thread left the kernel without waiting for the copy\n"
      ".*block \\(0,0,0\\) thread \\(.*,0,0\\) at .*planted_kernels.h:[0-9]+");
}

TEST_P(PlantedCopyBug, MissingCommit) {
  EXPECT_DEATH(run<CopyBug::no_commit>(), "left the kernel without waiting for the copy");
}

TEST_P(PlantedCopyBug, OverwrittenSource) {
  EXPECT_DEATH(run<CopyBug::writes_source>(),
               "cp.async: the source has changed before the copy was waited for\n"
               ".*block \\(0,0,0\\) thread \\(.*,0,0\\) at .*planted_kernels.h:[0-9]+");
}

TEST_P(PlantedCopyBug, OverwrittenDestination) {
  EXPECT_DEATH(run<CopyBug::writes_place>(), "cp.async: the destination was written to before");
}

TEST_P(PlantedCopyBug, AddressesAndSizes) {
  alignas(16) const char in[48] = {};
  const char* from = in;
  const auto copy = [&]<int kBytes>(int first, int to, unsigned valid) {
    simt::launch<copy_at<kBytes>>({1, 1, 0, {}}, from, first, to, valid, out_.data());
  };
  EXPECT_DEATH(copy.operator()<16>(8, 0, 16), "cp.async: the source address is not a multiple of 16 bytes");
  EXPECT_DEATH(copy.operator()<8>(8, 4, 8), "cp.async: the destination address is not a multiple of 8 bytes");
  EXPECT_DEATH(copy.operator()<4>(4, 4, 5), "cp.async: 5 of 4 bytes are to be read");
  EXPECT_DEATH(
      simt::launch<copy_to_global>({1, 1, 0, {}}, static_cast<const float*>(in_.data()), out_.data()),
      "cp.async: the destination is not in shared memory");
  out_[0] = 1.0f;
  copy.operator()<16>(16, 16, 0);  // nothing is read: zeros
  EXPECT_EQ(out_[0], 0.0f);
}

TEST_P(PlantedBug, BadLaunchConfiguration) {
  EXPECT_DEATH(simt::launch<nothing>({1, 1025, 0, {}}),
               "nothing: bad launch configuration: grid \\(1,1,1\\)");
  EXPECT_DEATH(simt::launch<nothing>({0, 32, 0, {}}), "bad launch configuration");
  EXPECT_DEATH(simt::launch<nothing>({dim3(1, 65536), 32, 0, {}}), "bad launch configuration");
  EXPECT_DEATH(simt::launch<nothing>({1, dim3(1, 1, 65), 0, {}}), "bad launch configuration");
  EXPECT_DEATH(simt::launch<nothing>({1, 32, 228 * 1024, {}}), "bytes of dynamic shared memory");
  simt::launch<nothing>({1, 1024, 227 * 1024, {}});  // the limits themselves are allowed
}

TEST_P(PlantedBug, SharedMemoryLimits) {
  EXPECT_DEATH(simt::launch<too_much_static_shared>({1, 32, 0, {}}, out_.data()),
               "SMEM objects take 50176 bytes");
  EXPECT_DEATH(simt::launch<shared_neighbour<true>>({1, 64, 227 * 1024, {}}, out_.data()),
               "a block can have 232448");
}

}  // namespace
}  // namespace plume::PLUME_KERNELS
