#include "engine/core/context.h"

#include <gtest/gtest.h>

namespace plume::context_test {
namespace {

TEST(Context, OnePerDeviceForTheLifeOfTheProcess) {
  for (const Device device : {Device::cpu, Device::cuda, Device::simt}) {
    EXPECT_EQ(context(device).device(), device);
    EXPECT_EQ(&context(device), &context(device));
  }
  EXPECT_NE(&context(Device::cpu), &context(Device::simt));
}

TEST(Context, StartsPlain) {
  const Context fresh(Device::cpu);
  EXPECT_EQ(fresh.stream(), nullptr);
  EXPECT_EQ(fresh.observer(), nullptr);
  EXPECT_FALSE(fresh.allow_tf32);
  EXPECT_FALSE(fresh.deterministic);
  EXPECT_EQ(fresh.seed, 0u);
  fresh.synchronize();
}

TEST(Context, CountersAreHandedOutOnce) {
  Context fresh(Device::cpu);
  EXPECT_EQ(fresh.take_counters(5), 0u);
  EXPECT_EQ(fresh.take_counters(0), 5u);
  EXPECT_EQ(fresh.take_counters(1), 5u);
  EXPECT_EQ(fresh.take_counters(uint64_t{1} << 40), 6u);
  EXPECT_EQ(fresh.next_counter, (uint64_t{1} << 40) + 6);
}

}  // namespace
}  // namespace plume::context_test
