// Loops over images, on all cores.
#pragma once
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "engine/core/cpu_count.h"

namespace plume::data {

// Threads for n items when `threads` are asked for (0: one per core that this process may use).
inline int64_t thread_count(int64_t n, int threads) {
  constexpr int64_t kMost = 64;
  const int64_t wanted = threads > 0 ? threads : int64_t(usable_cores());
  return std::clamp<int64_t>(wanted, 1, std::clamp<int64_t>(n, 1, kMost));
}

// Calls f(i) for 0 <= i < n on `threads` threads (0: one per core), in no particular order. f must not throw.
template <class F>
void for_each_index(int64_t n, int threads, const F& f) {
  const int64_t count = thread_count(n, threads);
  std::atomic<int64_t> next{0};
  const auto work = [&] {
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < n;) f(i);
  };
  std::vector<std::jthread> helpers;  // joined when they go out of scope
  for (int64_t t = 1; t < count; ++t) helpers.emplace_back(work);
  work();
}

// Calls make(i) for 0 <= i < n on threads, and use(i, result) on this one, in order. Threads wait while the
// results that are made but not used have more than `most_bytes` together (bytes(result) each). make must not
// throw; what use throws ends it all.
template <class Make, class Use, class Bytes>
void make_in_order(int64_t n, int threads, int64_t most_bytes, const Make& make, const Use& use,
                   const Bytes& bytes) {
  using Result = decltype(make(int64_t(0)));
  std::mutex mutex;  // guards what follows
  std::condition_variable room, arrival;
  std::map<int64_t, Result> made;
  int64_t next = 0, used = 0, waiting_bytes = 0;
  bool stopping = false;
  const auto work = [&] {
    std::unique_lock lock(mutex);
    for (;;) {
      // The one that is to be used next is made in any case.
      room.wait(lock, [&] { return stopping || next >= n || next == used || waiting_bytes < most_bytes; });
      if (stopping || next >= n) return;
      const int64_t i = next++;
      lock.unlock();
      Result result = make(i);
      lock.lock();
      waiting_bytes += bytes(result);
      made.emplace(i, std::move(result));
      arrival.notify_one();
    }
  };
  std::vector<std::jthread> workers;  // joined when they go out of scope, after they were told to stop
  struct Stop {
    ~Stop() {
      {
        const std::lock_guard lock(mutex);
        stopping = true;
      }
      room.notify_all();
    }
    std::mutex& mutex;
    std::condition_variable& room;
    bool& stopping;
  } stop{mutex, room, stopping};
  for (int64_t t = 0; t < thread_count(n, threads); ++t) workers.emplace_back(work);
  for (int64_t i = 0; i < n; ++i) {
    std::unique_lock lock(mutex);
    arrival.wait(lock, [&] { return made.contains(i); });
    Result result = std::move(made.extract(i).mapped());
    waiting_bytes -= bytes(result);
    used = i + 1;
    lock.unlock();
    room.notify_all();
    use(i, result);
  }
}

}  // namespace plume::data
