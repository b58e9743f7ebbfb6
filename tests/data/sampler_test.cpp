#include "data/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "engine/core/error.h"

namespace plume::data::sampler_test {
namespace {

SamplerParams shuffled(uint64_t seed = 3) {
  SamplerParams params;
  params.shuffle = true;
  params.seed = seed;
  return params;
}

bool holds_each_once(std::vector<int64_t> order, int64_t count) {
  std::sort(order.begin(), order.end());
  std::vector<int64_t> expected(static_cast<size_t>(count));
  std::iota(expected.begin(), expected.end(), int64_t(0));
  return order == expected;
}

TEST(Sampler, SequentialIsTheNaturalOrder) {
  EXPECT_EQ(Sampler(5, {}).order(7), (std::vector<int64_t>{0, 1, 2, 3, 4}));
}

TEST(Sampler, ShuffleIsAPermutationThatDependsOnSeedAndEpochAlone) {
  const Sampler sampler(1000, shuffled());
  const auto first = sampler.order(0);
  EXPECT_TRUE(holds_each_once(first, 1000));
  EXPECT_FALSE(std::is_sorted(first.begin(), first.end()));
  EXPECT_TRUE(holds_each_once(sampler.order(1), 1000));
  EXPECT_NE(first, sampler.order(1));
  EXPECT_EQ(first, sampler.order(0));
  EXPECT_EQ(first, Sampler(1000, shuffled()).order(0));
  EXPECT_NE(first, Sampler(1000, shuffled(4)).order(0));
}

// Over many epochs each index visits each place about equally often.
TEST(Sampler, ShuffleIsUniform) {
  constexpr int kCount = 8, kEpochs = 8000;
  const Sampler sampler(kCount, shuffled());
  int places[kCount][kCount] = {};
  for (int epoch = 0; epoch < kEpochs; ++epoch) {
    const auto order = sampler.order(epoch);
    for (size_t i = 0; i < kCount; ++i) ++places[order[i]][i];
  }
  for (const auto& row : places)
    for (const int visits : row) EXPECT_NEAR(visits, kEpochs / kCount, 160);  // over 5 sigma
}

TEST(Sampler, RanksTogetherSeeEachSampleExactlyOnce) {
  for (const int64_t count : {10, 11, 12, 13}) {
    std::vector<int64_t> all;
    for (int rank = 0; rank < 3; ++rank) {
      SamplerParams params = shuffled();
      params.rank = rank;
      params.world = 3;
      const Sampler sampler(count, params);
      const auto order = sampler.order(5);
      EXPECT_EQ(int64_t(order.size()), sampler.size());
      all.insert(all.end(), order.begin(), order.end());
    }
    EXPECT_TRUE(holds_each_once(all, count)) << count;
  }
}

TEST(Sampler, DropLastMakesRanksEqual) {
  SamplerParams params = shuffled();
  params.drop_last = true;
  params.world = 3;
  for (params.rank = 0; params.rank < 3; ++params.rank) EXPECT_EQ(Sampler(11, params).size(), 3);
}

TEST(Sampler, CountsBatches) {
  EXPECT_EQ(Sampler(10, {}).batches(4), 3);
  EXPECT_EQ(Sampler(10, {}).batches(5), 2);
  EXPECT_EQ(Sampler(10, {}).batches(100), 1);
  SamplerParams params;
  params.drop_last = true;
  EXPECT_EQ(Sampler(10, params).batches(4), 2);
  EXPECT_THROW(Sampler(10, params).batches(11), Error);
  EXPECT_THROW(Sampler(10, params).batches(0), Error);
}

TEST(Sampler, LimitUsesTheFirstSamples) {
  SamplerParams params = shuffled();
  params.limit = 6;
  EXPECT_TRUE(holds_each_once(Sampler(100, params).order(0), 6));
  params.limit = 1000;
  EXPECT_EQ(Sampler(100, params).size(), 100);
}

TEST(Sampler, RefusesImpossibleShares) {
  SamplerParams params;
  params.rank = 2;
  params.world = 2;
  EXPECT_THROW(Sampler(10, params), Error);
  params.rank = 1;
  EXPECT_THROW(Sampler(1, params), Error);
  EXPECT_THROW(Sampler(0, SamplerParams()), Error);
  SamplerParams negative;
  negative.limit = -1;
  EXPECT_THROW(Sampler(10, negative), Error);
}

}  // namespace
}  // namespace plume::data::sampler_test
