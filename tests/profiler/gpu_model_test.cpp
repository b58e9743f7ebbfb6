// The prediction follows what limits a kernel, on a GPU with round numbers.
#include "engine/profiler/gpu_model.h"

#include <gtest/gtest.h>

namespace plume::gpu_model_test {
namespace {

GpuDescription round_gpu() {
  GpuDescription gpu;
  gpu.name = "round";
  gpu.sms = 100;
  gpu.clock_hz = 1e9;
  gpu.dram_bytes_per_second = 1e12;
  gpu.l2_bytes_per_second = 4e12;
  gpu.l2_bytes = 40e6;
  gpu.l1_bytes = 200e3;
  gpu.shared_bytes_per_sm = 200 * 1024;
  gpu.threads_per_sm = 2048;
  gpu.blocks_per_sm = 32;
  gpu.tensor_flops_per_clock = 4096;
  gpu.f32_flops_per_clock = 256;
  gpu.dram_latency = 1000;
  gpu.l2_latency = 300;
  gpu.l1_latency = 40;
  gpu.launch_seconds = 3e-6;
  gpu.graph_node_seconds = 1e-6;
  return gpu;
}

// 10,000 blocks of 256 threads, all counted, that do nothing yet.
CountedLaunch many_blocks() {
  CountedLaunch launch;
  launch.grid[0] = 10'000;
  launch.block[0] = 256;
  launch.blocks = launch.counted_blocks = 10'000;
  return launch;
}

double part(const Prediction& p, Bound bound) { return p.parts[size_t(bound)]; }

TEST(GpuModel, ACopyIsHeldUpByMemory) {
  CountedLaunch copy = many_blocks();
  copy.counts.dram_read_bytes = copy.counts.dram_written_bytes = 0.5e9;
  copy.counts.l2_bytes = 1e9;
  copy.counts.sectors = 1e9 / 32;
  copy.counts.lines = 1e9 / 128;
  const Prediction p = predict(copy, round_gpu());
  EXPECT_EQ(p.bound, Bound::dram);
  EXPECT_EQ(p.second, Bound::l2);
  EXPECT_NEAR(part(p, Bound::dram), 1e-3 / 0.93, 1e-6);
  EXPECT_GT(p.seconds, 1e-3 / 0.93);
  EXPECT_LT(p.seconds, 1.1e-3);
  EXPECT_LT(p.low, p.seconds);
  EXPECT_GT(p.high, p.seconds);
}

TEST(GpuModel, BankConflictsHoldUpTheLoadStoreUnit) {
  CountedLaunch launch = many_blocks();
  launch.counts.dram_read_bytes = launch.counts.l2_bytes = 1e8;
  launch.counts.wavefronts = 1e6;
  EXPECT_EQ(predict(launch, round_gpu()).bound, Bound::dram);
  launch.counts.wavefronts = 32e6;
  const Prediction p = predict(launch, round_gpu());
  EXPECT_EQ(p.bound, Bound::load_store);
  EXPECT_NEAR(part(p, Bound::load_store), 32e6 / (100 * 1e9), 1e-9);
}

TEST(GpuModel, TensorCoresAreNotWhollyReached) {
  CountedLaunch launch = many_blocks();
  launch.counts.mma = 1e8;  // 4096 FLOPs each: a clock of an SM
  const Prediction p = predict(launch, round_gpu());
  EXPECT_EQ(p.bound, Bound::tensor);
  EXPECT_NEAR(part(p, Bound::tensor), 1e8 / (100 * 1e9) / 0.62, 1e-9);
}

TEST(GpuModel, OneBlockTooManyTakesAnotherRound) {
  const auto seconds = [](uint64_t blocks) {
    CountedLaunch launch = many_blocks();
    launch.blocks = launch.counted_blocks = blocks;
    launch.counts.instructions = 1e6 * double(blocks);
    return part(predict(launch, round_gpu()), Bound::issue);
  };
  EXPECT_NEAR(seconds(100), 1e6 / (4 * 0.8) / 1e9, 1e-9);
  EXPECT_NEAR(seconds(101), 2 * seconds(100), 1e-9);
  EXPECT_NEAR(seconds(200), 2 * seconds(100), 1e-9);
}

TEST(GpuModel, OccupancyIsWhatRunsOutFirst) {
  CountedLaunch launch = many_blocks();
  const auto occupancy = [&](double registers, uint64_t shared_bytes) {
    launch.registers = registers;
    launch.shared_bytes = shared_bytes;
    return predict(launch, round_gpu()).occupancy;
  };
  EXPECT_EQ(occupancy(32, 0), 1);
  EXPECT_EQ(occupancy(64, 0), 0.5);
  EXPECT_EQ(occupancy(255, 0), 0.125);
  EXPECT_EQ(occupancy(32, 99 * 1024), 0.25);  // and one KiB more: two blocks of an SM
  EXPECT_EQ(occupancy(32, 100 * 1024), 0.125);
}

TEST(GpuModel, ALongChainIsLatency) {
  CountedLaunch launch = many_blocks();
  launch.blocks = launch.counted_blocks = 100;
  launch.counts.waits = 100.0 * 8 * 50;  // each warp waits for 50 loads one after the other
  launch.counts.sectors = 1e5;
  launch.counts.l2_bytes = launch.counts.dram_read_bytes = 3.2e6;
  const Prediction p = predict(launch, round_gpu());
  EXPECT_EQ(p.bound, Bound::latency);
  EXPECT_NEAR(part(p, Bound::latency), (50 * 1000 + 1000) / 1e9, 1e-8);
}

TEST(GpuModel, AKernelOfNothingIsItsLaunch) {
  CountedLaunch launch = many_blocks();
  launch.blocks = launch.counted_blocks = 1;
  const Prediction node = predict(launch, round_gpu());
  EXPECT_NEAR(node.seconds, 1e-6 + 1e-6, 1e-8);  // the node; begin and end
  EXPECT_NEAR(predict(launch, round_gpu(), {.graph = false}).seconds, 3e-6 + 1e-6, 1e-8);
}

TEST(GpuModel, WhatIsReadAgainIsFoundWhereLittleWasTouchedBetween) {
  const auto found = [](double least, double most) { return found_in_l2({least, most}, round_gpu()); };
  EXPECT_EQ(found(0, 0), 1);
  EXPECT_EQ(found(20e6, 20e6), 1);
  EXPECT_EQ(found(30e6, 30e6), 0.5);
  EXPECT_EQ(found(40e6, 40e6), 0);
  EXPECT_NEAR(found(0, 20e6), 1, 1e-12);
  EXPECT_NEAR(found(0, 40e6), 0.75, 1e-12);
  EXPECT_NEAR(found(20e6, 40e6), 0.5, 1e-12);
  EXPECT_NEAR(found(0, 300e6), 0.1, 1e-12);  // 30 of 300 MB
  EXPECT_NEAR(found(50e6, 60e6), 0, 1e-12);
}

TEST(GpuModel, ASampleStandsForTheWhole) {
  CountedLaunch whole = many_blocks(), sample = many_blocks();
  whole.counts.instructions = whole.counts.l2_bytes = 1e9;
  sample.counts = whole.counts;
  sample.counts *= 0.01;
  sample.counted_blocks = 100;
  EXPECT_NEAR(predict(sample, round_gpu()).seconds, predict(whole, round_gpu()).seconds, 1e-12);
}

}  // namespace
}  // namespace plume::gpu_model_test
