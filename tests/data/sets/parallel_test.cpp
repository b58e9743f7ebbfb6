#include "data/sets/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>

namespace plume::data::parallel_test {
namespace {

TEST(Parallel, EveryIndexOnce) {
  for (const int64_t n : {0, 1, 7, 1000})
    for (const int threads : {0, 1, 3, 1000}) {
      std::vector<std::atomic<int>> calls(static_cast<size_t>(n));
      for_each_index(n, threads, [&](int64_t i) { ++calls[size_t(i)]; });
      for (const auto& count : calls) EXPECT_EQ(count, 1);
    }
}

TEST(Parallel, ResultsComeInOrder) {
  for (const int64_t n : {0, 1, 500})
    for (const int threads : {1, 4}) {
      std::vector<int64_t> seen;
      make_in_order(
          n, threads, 10,
          [](int64_t i) {
            if (i % 50 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
            return i * i;
          },
          [&](int64_t i, int64_t square) {
            EXPECT_EQ(square, i * i);
            seen.push_back(i);
          },
          [](int64_t) { return int64_t(1); });
      ASSERT_EQ(int64_t(seen.size()), n);
      EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
    }
}

// A slow user: no more is made ahead than asked for, and a little for those that are under way.
TEST(Parallel, MemoryIsBounded) {
  constexpr int kThreads = 3;
  constexpr int64_t kMost = 5;
  std::atomic<int64_t> made{0}, most{0};
  make_in_order(
      40, kThreads, kMost,
      [&](int64_t i) {
        ++made;
        return i;
      },
      [&](int64_t i, int64_t) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        most = std::max<int64_t>(most, made - i);
      },
      [](int64_t) { return int64_t(1); });
  EXPECT_LE(most, kMost + kThreads + 1);
  EXPECT_EQ(made, 40);
}

TEST(Parallel, WhatTheUserThrowsEndsItAll) {
  std::atomic<int64_t> made{0};
  const auto run = [&] {
    make_in_order(
        100'000, 4, 8,
        [&](int64_t i) {
          ++made;
          return i;
        },
        [](int64_t i, int64_t) {
          if (i == 3) throw std::runtime_error("enough");
        },
        [](int64_t) { return int64_t(1); });
  };
  EXPECT_THROW(run(), std::runtime_error);
  EXPECT_LT(made, 100);
}

}  // namespace
}  // namespace plume::data::parallel_test
