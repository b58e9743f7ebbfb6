// The counters against answers worked out by hand. Built with the counters by tests/simt/CMakeLists.txt,
// whatever the rest of the build uses.
#include "tests/simt/counted.h"
#include "tests/simt/waiting_kernels.h"

namespace plume::PLUME_KERNELS {
namespace {

TEST_F(Counts, OfNeighbouringWords) {
  const KernelCounts c = warp_counts<counted_strided>(in_.in(), 1, 0, out_.get());
  EXPECT_EQ(c.loads, 1);
  EXPECT_EQ(c.stores, 1);
  EXPECT_EQ(c.global_lanes, 64);
  EXPECT_EQ(c.global_bytes, 256);
  EXPECT_EQ(c.sectors, 8);
  EXPECT_EQ(c.ideal_sectors, 8);
  EXPECT_EQ(c.lines, 2);
  EXPECT_EQ(c.dram_read_bytes, 128);
  EXPECT_EQ(c.dram_written_bytes, 128);
  EXPECT_EQ(c.l2_bytes, 256);
  EXPECT_EQ(c.shared_requests() + c.barriers + c.shuffles + c.atomics + c.mma + c.ldmatrix, 0);
}

TEST_F(Counts, OfEverySecondWord) {
  const KernelCounts c = warp_counts<counted_strided>(in_.in(), 2, 0, out_.get());
  EXPECT_EQ(c.sectors, 8 + 4);
  EXPECT_EQ(c.ideal_sectors, 4 + 4);
  EXPECT_EQ(c.lines, 2 + 1);
  EXPECT_EQ(c.global_bytes, 256);
  EXPECT_EQ(c.dram_read_bytes, 256);
}

TEST_F(Counts, OfAWordPerSector) {
  const KernelCounts c = warp_counts<counted_strided>(in_.in(), 8, 0, out_.get());
  EXPECT_EQ(c.sectors, 32 + 4);
  EXPECT_EQ(c.lines, 8 + 1);
}

TEST_F(Counts, OfAWordPerLine) {
  const KernelCounts c = warp_counts<counted_strided>(in_.in(), 32, 0, out_.get());
  EXPECT_EQ(c.sectors, 32 + 4);
  EXPECT_EQ(c.lines, 32 + 1);
}

TEST_F(Counts, OfWordsThatBeginWithinASector) {
  const KernelCounts c = warp_counts<counted_strided>(in_.in(), 1, 1, out_.get());
  EXPECT_EQ(c.sectors, 5 + 4);
  EXPECT_EQ(c.ideal_sectors, 4 + 4);
  EXPECT_EQ(c.lines, 2 + 1);
}

TEST_F(Counts, OfABroadcast) {
  const KernelCounts c = warp_counts<counted_broadcast>(in_.in(), out_.get());
  EXPECT_EQ(c.loads, 1);
  EXPECT_EQ(c.sectors, 1 + 4);
  EXPECT_EQ(c.global_bytes, 4 + 128);
  EXPECT_EQ(c.lanes_per_request(), 32);
}

TEST_F(Counts, OfHalfWords) {
  const CountedArray<f16> in(64), out(64);
  const KernelCounts c = warp_counts<counted_values<f16>>(in.in(), out.get());
  EXPECT_EQ(c.sectors, 2 + 2);
  EXPECT_EQ(c.lines, 2);
}

TEST_F(Counts, OfBytes) {
  const CountedArray<uint8_t> in(64), out(64);
  const KernelCounts c = warp_counts<counted_values<uint8_t>>(in.in(), out.get());
  EXPECT_EQ(c.sectors, 1 + 1);
  EXPECT_EQ(c.global_bytes, 64);
}

TEST_F(Counts, OfPacksAsOneRequest) {
  const CountedArray<f16> in(4096), out(4096);
  const KernelCounts c = warp_counts<counted_packs<f16, 8>>(in.in(), 1, out.get());
  EXPECT_EQ(c.loads, 1);
  EXPECT_EQ(c.stores, 1);
  EXPECT_EQ(c.sectors, 16 + 16);
  EXPECT_EQ(c.ideal_sectors, 32);
  EXPECT_EQ(c.lines, 4 + 4);
}

TEST_F(Counts, OfPacksApart) {
  const CountedArray<f16> in(4096), out(4096);
  const KernelCounts c = warp_counts<counted_packs<f16, 8>>(in.in(), 2, out.get());
  EXPECT_EQ(c.sectors, 32 + 16);
  EXPECT_EQ(c.ideal_sectors, 16 + 16);
}

TEST_F(Counts, OfPacksThatStraddleSectors) {
  const CountedArray<f16> in(4096), out(4096);
  const KernelCounts c = warp_counts<counted_packs<f16, 8>>(in.in() + 8, 1, out.get());  // 16 bytes on
  EXPECT_EQ(c.sectors, 17 + 16);
  EXPECT_EQ(c.lines, 5 + 4);
}

TEST_F(Counts, OfHalfAWarp) {
  const KernelCounts c = warp_counts<counted_first_lanes>(in_.in(), 16, out_.get());
  EXPECT_EQ(c.loads, 1);
  EXPECT_EQ(c.lanes_per_request(), 16);
  EXPECT_EQ(c.sectors, 2 + 2);
}

TEST_F(Counts, OfEveryFourthLane) {
  const KernelCounts c = warp_counts<counted_some_lanes>(in_.in(), 4, out_.get());
  EXPECT_EQ(c.loads, 1);
  EXPECT_EQ(c.lanes_per_request(), 8);
  EXPECT_EQ(c.sectors, 4 + 4);
  EXPECT_EQ(c.ideal_sectors, 1 + 1);
}

TEST_F(Counts, OfABranch) {
  const KernelCounts c = warp_counts<counted_branch>(in_.in(), in_.in() + 4096, out_.get());
  EXPECT_EQ(c.loads, 2);
  EXPECT_EQ(c.stores, 1);  // together again
  EXPECT_EQ(c.global_lanes, 16 + 16 + 32);
  EXPECT_EQ(c.sectors, 2 + 2 + 4);
}

TEST_F(Counts, OfNestedBranches) {
  const KernelCounts c = warp_counts<counted_nested>(in_.in(), out_.get());
  EXPECT_EQ(c.loads, 2);
  EXPECT_EQ(c.stores, 1);
  EXPECT_EQ(c.global_lanes, 8 + 16 + 32);
}

TEST_F(Counts, OfLoopsThatEndEarly) {
  const KernelCounts c = warp_counts<counted_turns>(in_.in(), out_.get());
  EXPECT_EQ(c.loads, 31);                       // the longest lane's turns
  EXPECT_EQ(c.global_lanes, 31 * 32 / 2 + 32);  // 0 + 1 + ... + 31 loads, and the store
  EXPECT_EQ(c.stores, 1);
}

TEST_F(Counts, OfTurnsThatLanesSkip) {
  const KernelCounts c = warp_counts<counted_skipped_turns>(in_.in(), 4, out_.get());
  EXPECT_EQ(c.loads, 4);
  EXPECT_EQ(c.global_lanes, 4 * 24 + 32);
  EXPECT_EQ(c.sectors, 4 * 4 + 4);
}

TEST_F(Counts, OfEveryWarpAndBlock) {
  const CountedLaunch launch = counted([&] {
    simt::launch<counted_strided>({dim3(3), dim3(96), 0, {}}, in_.in(), 1, 0, out_.get());
  });
  EXPECT_EQ(launch.counts.loads, 9);
  EXPECT_EQ(launch.counts.sectors, 72);
  EXPECT_EQ(launch.blocks, 3u);
  EXPECT_EQ(launch.counted_blocks, 3u);
  EXPECT_EQ(launch.warps(), 3u);
  EXPECT_NE(launch.kernel.find("counted_strided"), std::string::npos);
}

TEST_F(Counts, OfALastWarpWithFewLanes) {
  const CountedLaunch launch = counted([&] {
    simt::launch<counted_strided>({1, 40, 0, {}}, in_.in(), 1, 0, out_.get());
  });
  EXPECT_EQ(launch.counts.loads, 2);
  EXPECT_EQ(launch.counts.global_lanes, 80);
  EXPECT_EQ(launch.counts.sectors, 2 * (4 + 1));
}

TEST_F(Counts, OfBankConflicts) {
  for (const int stride : {1, 2, 3, 4, 8, 16, 32}) {
    const KernelCounts c = warp_counts<counted_shared_stride>(stride, out_.get());
    const int ways = stride == 3 ? 1 : stride;  // odd strides meet every bank once
    EXPECT_EQ(c.wavefronts, 2 * ways) << stride;
    EXPECT_EQ(c.ideal_wavefronts, 2) << stride;
    EXPECT_EQ(c.shared_loads, 1);
    EXPECT_EQ(c.shared_stores, 1);
    EXPECT_EQ(c.barriers, 1);
  }
}

TEST_F(Counts, OfOneSharedWord) {
  const KernelCounts c = warp_counts<counted_shared_one_word>(out_.get());
  EXPECT_EQ(c.wavefronts, 1 + 1);
  EXPECT_EQ(c.shared_bytes, 128 + 4);
}

TEST_F(Counts, OfSharedPacksSideBySide) {
  const CountedArray<f16> out(4096);
  const KernelCounts c = warp_counts<counted_shared_packs<8>>(out.get());
  EXPECT_EQ(c.wavefronts, 4 + 4);
  EXPECT_EQ(c.ideal_wavefronts, 4 + 4);
  EXPECT_EQ(c.shared_requests(), 2);
}

TEST_F(Counts, OfSharedPacksInRowsOfALine) {
  const CountedArray<f16> out(4096);
  const KernelCounts c = warp_counts<counted_shared_packs<64>>(out.get());  // all in the same four banks
  EXPECT_EQ(c.wavefronts, 32 + 32);
}

TEST_F(Counts, OfSharedPacksInPaddedRows) {
  const CountedArray<f16> out(4096);
  // Rows of 144 bytes: eight neighbours begin 4 banks apart.
  EXPECT_EQ(warp_counts<counted_shared_packs<72>>(out.get()).wavefronts, 4 + 4);
  // Rows of 160 bytes: 8 banks apart, every fifth lane meets the first again.
  EXPECT_EQ(warp_counts<counted_shared_packs<80>>(out.get()).wavefronts, 8 + 8);
}

TEST_F(Counts, OfPacksThatAreCopied) {
  const CountedArray<f16> in(4096), out(4096);
  const KernelCounts c = warp_counts<counted_pack_array>(in.in(), out.get());
  EXPECT_EQ(c.shared_stores, 1);
  EXPECT_EQ(c.shared_loads, 1);
  EXPECT_EQ(c.wavefronts, 8);
  EXPECT_EQ(c.loads, 1);
  EXPECT_EQ(c.stores, 1);
}

TEST_F(Counts, OfLdmatrix) {
  const CountedArray<uint32_t> out(32);
  const KernelCounts padded = warp_counts<counted_ldmatrix<24>>(out.get());  // rows of 48 bytes
  EXPECT_EQ(padded.ldmatrix, 1);
  EXPECT_EQ(padded.shared_loads, 1);
  EXPECT_EQ(padded.wavefronts, 4);
  EXPECT_EQ(padded.ideal_wavefronts, 4);
  // Rows of 32 bytes: eight rows take eight times eight banks, twice round.
  EXPECT_EQ(warp_counts<counted_ldmatrix<16>>(out.get()).wavefronts, 8);
  // Rows of 128 bytes: all eight rows in the same four banks.
  EXPECT_EQ(warp_counts<counted_ldmatrix<64>>(out.get()).wavefronts, 32);
}

TEST_F(Counts, OfLdmatrixOfTwo) {
  const CountedArray<uint32_t> out(32);
  const KernelCounts c = warp_counts<counted_ldmatrix_two>(out.get());
  EXPECT_EQ(c.shared_lanes, 16);
  EXPECT_EQ(c.wavefronts, 2);
  EXPECT_EQ(c.shared_bytes, 256);
}

TEST_F(Counts, OfMma) {
  const KernelCounts c = warp_counts<counted_mma>(out_.get());
  EXPECT_EQ(c.mma, 3);
  EXPECT_EQ(c.shuffles, 0);
  EXPECT_EQ(c.loads, 0);
}

TEST_F(Counts, OfAtomics) {
  const CountedArray<int> counts(64);
  for (const int sharing : {1, 2, 32}) {
    const KernelCounts c = warp_counts<counted_atomics>(counts.get(), sharing);
    EXPECT_EQ(c.atomics, 1);
    EXPECT_EQ(c.atomic_lanes, 32);
    EXPECT_EQ(c.atomic_turns, sharing);
    EXPECT_EQ(c.requests(), 0);
    EXPECT_EQ(c.l2_bytes, std::max(4 / sharing, 1) * 32);
  }
}

TEST_F(Counts, OfSharedAtomics) {
  const CountedArray<int> out(64);
  const KernelCounts c = warp_counts<counted_shared_atomics>(out.get());
  EXPECT_EQ(c.atomics, 1);
  EXPECT_EQ(c.atomic_turns, 8);
  EXPECT_EQ(c.l2_bytes, 128);  // the store alone
  EXPECT_EQ(c.barriers, 2);
}

TEST_F(Counts, OfAReduction) {
  const KernelCounts c = counted([&] {
                           simt::launch<counted_reduction>({1, 64, 0, {}}, in_.in(), out_.get());
                         }).counts;
  EXPECT_EQ(c.shuffles, 2 * 5);
  EXPECT_EQ(c.barriers, 2 * 2);
  EXPECT_EQ(c.shared_stores, 2);
  EXPECT_EQ(c.shared_loads, 2 * 2);
  EXPECT_EQ(c.wavefronts, 2 + 4);
  EXPECT_EQ(c.stores, 1);
}

TEST_F(Counts, OfWhatTheL1Keeps) {
  // 64 words a lane are 8 KiB: the second round hits a cache of 16 KiB, and misses one of 4 KiB altogether,
  // which has lost each line before it is wanted again.
  const auto bytes = [&](uint64_t l1) {
    const auto run = [&] { simt::launch<counted_again>({1, 32, 0, {}}, in_.in(), 64, 2, out_.get()); };
    return counted(run, {.l1 = {l1, 4}}).counts;
  };
  EXPECT_EQ(bytes(16 << 10).l2_bytes, 64 * 128 + 128);
  EXPECT_EQ(bytes(4 << 10).l2_bytes, 2 * 64 * 128 + 128);
  EXPECT_EQ(bytes(4 << 10).dram_read_bytes, 64 * 128);
  EXPECT_EQ(bytes(16 << 10).sectors, 2 * 64 * 4 + 4);
}

TEST_F(Counts, OfWhatTheL2Keeps) {
  const auto run = [&] { simt::launch<counted_again>({1, 32, 0, {}}, in_.in(), 64, 2, out_.get()); };
  EXPECT_EQ(counted(run, {.l1 = {1 << 10, 4}, .l2 = {4 << 10, 4}}).counts.dram_read_bytes, 2 * 64 * 128);
  EXPECT_EQ(counted(run, {.l1 = {1 << 10, 4}, .l2 = {16 << 10, 4}}).counts.dram_read_bytes, 64 * 128);
}

TEST_F(Counts, OfALaunchThatFindsTheCacheWarm) {
  for (const bool cold : {false, true}) {
    simt::emu::counter().begin({.cold_launches = cold});
    for (int i = 0; i < 2; ++i) simt::launch<counted_strided>({1, 32, 0, {}}, in_.in(), 1, 0, out_.get());
    const auto launches = simt::emu::counter().end();
    ASSERT_EQ(launches.size(), 2u);
    EXPECT_EQ(launches[1].counts.dram_read_bytes, cold ? 128 : 0);
    EXPECT_EQ(launches[1].counts.dram_written_bytes, cold ? 128 : 0);
    EXPECT_EQ(launches[1].counts.l2_bytes, 256);
  }
}

TEST_F(Counts, OfBytesInFlight) {
  const KernelCounts c = warp_counts<counted_in_flight>(in_.in(), out_.get());
  EXPECT_EQ(c.waits, 3);
  EXPECT_EQ(c.waited_bytes, 256 + 128 + 128);
}

TEST_F(Counts, StandAtTheirLines) {
  const CountedLaunch launch = counted([&] {
    simt::launch<counted_packs<float, 4>>({1, 32, 0, {}}, in_.in(), 2, out_.get());
  });
  double sectors = 0;
  for (const CountedPlace& place : launch.places)
    if (place.file.ends_with("tests/simt/counted_kernels.h")) sectors += place.counts.sectors;
  EXPECT_EQ(sectors, 32 + 16);
}

TEST_F(Counts, OfWarpsThatPass) {
  const KernelCounts straight = warp_counts<counted_strided>(in_.in(), 1, 0, out_.get());
  EXPECT_EQ(straight.steps, 1);
  EXPECT_EQ(straight.step_lanes, 32);
  const KernelCounts parted = warp_counts<counted_branch>(in_.in(), in_.in() + 4096, out_.get());
  EXPECT_EQ(parted.step_lanes, 32 * (parted.steps - 1));  // two half warps, all others whole
}

TEST_F(Counts, OfASampleAgreeWithTheWhole) {
  const auto run = [&] { simt::launch<counted_uneven_blocks>({400, 32, 0, {}}, in_.in(), out_.get()); };
  const CountedLaunch all = counted(run), some = counted(run, {.blocks_per_launch = 40});
  EXPECT_EQ(some.blocks, 400u);
  EXPECT_EQ(some.counted_blocks, 40u);
  EXPECT_NEAR(some.scaled_counts().loads, all.counts.loads, 0.2 * all.counts.loads);
  EXPECT_EQ(some.scaled_counts().stores, all.counts.stores);
  EXPECT_EQ(counted(run, {.blocks_of_launch = [](uint64_t n) { return n + 3; }}).counted_blocks, 3u);
  EXPECT_TRUE(counted(run, {.blocks_of_launch = [](uint64_t n) { return n; }}).places.empty());
}

TEST_F(Counts, OfASampleOfBlocksThatWaitForOthers) {
  std::vector<unsigned> words(65);
  const auto run = [&] {
    simt::launch<hand_on<true, Waits::rightly>>({64, 64, 0, {}}, words.data(), out_.get());
  };
  const CountedLaunch all = counted(run), some = counted(run, {.blocks_per_launch = 8});
  EXPECT_EQ(out_.get()[63 * 64], 64.0f);
  EXPECT_EQ(some.counted_blocks, 8u);
  EXPECT_NEAR(some.scaled_counts().atomics, all.counts.atomics, 0.02 * all.counts.atomics);
  EXPECT_EQ(words, std::vector<unsigned>(65));  // as if the sample had not run
}

TEST_F(Counts, HaveTheReuseThatALaunchDeclares) {
  const auto run = [&] { simt::launch<counted_strided>({1, 32, 0, {}}, in_.in(), 1, 0, out_.get()); };
  EXPECT_EQ(counted([&] {
              simt::declare_reuse({3, 5});
              run();
            }).reuse.most,
            5);
  EXPECT_EQ(counted(run).reuse.most, 0);  // of the next launch alone
}

TEST_F(Counts, AreNotMadeOutsideOfCounting) {
  simt::launch<counted_strided>({1, 32, 0, {}}, in_.in(), 1, 0, out_.get());
  simt::emu::counter().begin({});
  EXPECT_TRUE(simt::emu::counter().end().empty());
}

TEST_F(Counts, DoNotDependOnTheOrderOfThreads) {
  const KernelCounts normal = warp_counts<counted_nested>(in_.in(), out_.get());
  simt::emu::options().reverse = true;
  const KernelCounts reversed = warp_counts<counted_nested>(in_.in(), out_.get());
  simt::emu::options().reverse = false;
  EXPECT_EQ(normal.loads, reversed.loads);
  EXPECT_EQ(normal.steps, reversed.steps);
  EXPECT_EQ(normal.sectors, reversed.sectors);
}

}  // namespace
}  // namespace plume::PLUME_KERNELS
