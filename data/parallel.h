// Loops over images, on all cores.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace plume::data {

// Calls f(i) for 0 <= i < n on `threads` threads (0: one per core), in no particular order. f must not throw.
template <class F>
void for_each_index(int64_t n, int threads, const F& f) {
  constexpr int64_t kMostThreads = 64;
  const int64_t wanted = threads > 0 ? threads : int64_t(std::thread::hardware_concurrency());
  const int64_t count = std::clamp<int64_t>(wanted, 1, std::min(kMostThreads, std::max<int64_t>(n, 1)));
  std::atomic<int64_t> next{0};
  const auto work = [&] {
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < n;) f(i);
  };
  std::vector<std::jthread> helpers;  // joined when they go out of scope
  for (int64_t t = 1; t < count; ++t) helpers.emplace_back(work);
  work();
}

}  // namespace plume::data
