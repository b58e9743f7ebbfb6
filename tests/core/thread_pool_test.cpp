// The pool: every piece once, exceptions, loops inside loops and beside each other, forks, and what it does
// with threads that cost more than they bring.
#include "engine/core/thread_pool.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>

#include "tests/support/test_support.h"

namespace plume::thread_pool_test {
namespace {

using std::chrono::steady_clock;

// Counts how often each piece was called.
struct CountedPieces {
  explicit CountedPieces(int64_t n) : calls(size_t(n)) {}
  void operator()(int64_t i) const { calls[size_t(i)].fetch_add(1, std::memory_order_relaxed); }
  bool each_once() const {
    for (const auto& c : calls)
      if (c != 1) return false;
    return true;
  }
  mutable std::vector<std::atomic<int>> calls;
};

// Shares the loop out whatever it costs: on a busy machine the pool would leave it to this thread.
template <class F>
bool run_shared(ThreadPool& pool, int64_t pieces, int threads, const F& f) {
  share_every_loop(true);
  struct Off {
    ~Off() { share_every_loop(false); }
  } off;
  return pool.run(pieces, threads, f);
}

TEST(ThreadPoolTest, CallsEveryPieceOnce) {
  ThreadPool pool;
  for (const int threads : {2, 3, 8})
    for (const int64_t pieces : {2, 3, 7, 8, 64, 1000}) {
      const CountedPieces counted(pieces);
      ASSERT_TRUE(run_shared(pool, pieces, threads, counted));
      EXPECT_TRUE(counted.each_once()) << pieces << " pieces, " << threads << " threads";
    }
  EXPECT_EQ(pool.workers(), 7);
}

TEST(ThreadPoolTest, ManyShortLoops) {
  ThreadPool pool;
  int64_t shared = 0;
  for (int loop = 0; loop < 20'000; ++loop) {
    int64_t values[16] = {};
    const auto piece = [&](int64_t i) { values[i] = i + loop; };
    if (!pool.run(16, 2 + loop % 3, piece)) continue;
    ++shared;
    ASSERT_EQ(std::accumulate(values, values + 16, int64_t(0)), 120 + 16 * int64_t(loop)) << loop;
  }
  EXPECT_GT(shared, 0);
}

TEST(ThreadPoolTest, LeavesToTheCallerWhatIsNotForThreads) {
  ThreadPool pool;
  const auto never = [](int64_t) { FAIL(); };
  EXPECT_FALSE(pool.run(0, 4, never));
  EXPECT_FALSE(pool.run(1, 4, never));
  EXPECT_FALSE(pool.run(100, 1, never));
  EXPECT_EQ(pool.workers(), 0);
}

TEST(ThreadPoolTest, WorksOnSeveralThreadsWhereTheyHaveCores) {
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof cores, &cores) != 0 || CPU_COUNT(&cores) < 2) GTEST_SKIP() << "one core";
  ThreadPool pool;
  std::mutex mutex;
  std::set<std::thread::id> seen;
  for (int attempt = 0; attempt < 200 && seen.size() < 2; ++attempt)
    run_shared(pool, 8, 2, [&](int64_t) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      const std::lock_guard lock(mutex);
      seen.insert(std::this_thread::get_id());
    });
  EXPECT_EQ(seen.size(), 2u);
}

TEST(ThreadPoolTest, ThrowsWhatAPieceThrowsAndGoesOnWorking) {
  ThreadPool pool;
  for (int loop = 0; loop < 50; ++loop) {
    std::string what;
    try {
      run_shared(pool, 32, 4, [&](int64_t i) {
        if (i % 8 == 5) throw std::runtime_error("piece " + std::to_string(i));
      });
    } catch (const std::runtime_error& error) {
      what = error.what();
    }
    EXPECT_TRUE(what == "piece 5" || what == "piece 13" || what == "piece 21" || what == "piece 29") << what;
    const CountedPieces counted(32);
    ASSERT_TRUE(run_shared(pool, 32, 4, counted));
    EXPECT_TRUE(counted.each_once());
  }
}

TEST(ThreadPoolTest, ALoopInsideAPieceIsItsCallersOwn) {
  ThreadPool pool;
  std::atomic<int> shared_inside{0};
  const auto piece = [&](int64_t) { shared_inside += pool.run(4, 4, [](int64_t) {}); };
  ASSERT_TRUE(run_shared(pool, 16, 4, piece));
  EXPECT_EQ(shared_inside, 0);
  ASSERT_TRUE(run_shared(pool, 16, 4, [](int64_t) {}));  // outside again
}

TEST(ThreadPoolTest, ServesManyCallersAtOnce) {
  ThreadPool pool;
  std::atomic<int> wrong{0};
  std::vector<std::jthread> callers;
  for (int caller = 0; caller < 4; ++caller)
    callers.emplace_back([&pool, &wrong] {
      for (int loop = 0; loop < 2000; ++loop) {
        const CountedPieces counted(24);
        if (!pool.run(24, 3, counted))
          for (int64_t i = 0; i < 24; ++i) counted(i);
        wrong += !counted.each_once();
      }
    });
  callers.clear();
  EXPECT_EQ(wrong, 0);
}

TEST(ThreadPoolTest, AForkedChildStartsThreadsOfItsOwn) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the sanitizer forbids threads after a fork";
#endif
  if (test::is_emulated()) GTEST_SKIP() << "the emulator forbids threads after a fork";
  run_shared(ThreadPool::shared(), 8, 2, [](int64_t) {});
  const pid_t child = fork();
  if (child == 0) {
    const CountedPieces counted(64);
    const bool none = ThreadPool::shared().workers() == 0;
    const bool shared = run_shared(ThreadPool::shared(), 64, 3, counted);
    _exit(none && shared && counted.each_once() && ThreadPool::shared().workers() == 2 ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

// A pinned process has one core, whatever --threads says: the other threads leave the work to the caller.
TEST(ThreadPoolTest, OnOneCoreTheCallerWorksAlone) {
  cpu_set_t before, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  CPU_ZERO(&one);
  CPU_SET(sched_getcpu(), &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  {
    ThreadPool pool;
    std::atomic<int> by_others{0};
    const auto caller = std::this_thread::get_id();
    for (int loop = 0; loop < 200; ++loop)
      run_shared(pool, 16, 2, [&](int64_t) { by_others += std::this_thread::get_id() != caller; });
    EXPECT_EQ(by_others, 0);
  }
  sched_setaffinity(0, sizeof before, &before);
}

int64_t not_known() { return -1; }

TEST(HelpAccountTest, ClosesForManyTimesWhatWasLost) {
  constexpr int64_t kMs = 1'000'000;
  HelpAccount account(not_known);
  EXPECT_TRUE(account.open(0));
  account.book(0, kMs / 10, 0);  // noise
  EXPECT_TRUE(account.open(0));
  account.book(0, 5 * kMs, 10 * kMs);
  EXPECT_FALSE(account.open(10 * kMs + 24 * 5 * kMs));
  EXPECT_TRUE(account.open(10 * kMs + 25 * 6 * kMs));
}

// Threads that bring nothing are let in ever more rarely, until they have brought something.
TEST(HelpAccountTest, TriesMoreRarelyWhatBroughtNothing) {
  constexpr int64_t kMs = 1'000'000;
  HelpAccount account(not_known);
  int64_t now = 0;
  std::vector<int64_t> pauses;
  const auto lose = [&](int64_t loss) {
    account.book(0, loss, now);
    const int64_t closed = now;
    while (!account.open(now)) now += kMs;
    pauses.push_back((now - closed) / kMs);
  };
  for (int i = 0; i < 5; ++i) lose(kMs / 2);
  EXPECT_EQ(pauses, (std::vector<int64_t>{120, 480, 1920, 4000, 4000}));
  for (int i = 0; i < 100; ++i) account.book(kMs, 0, now);
  lose(5 * kMs);  // 4 ms of them are paid for
  EXPECT_EQ(pauses.back(), 24);
  lose(kMs / 2);
  EXPECT_EQ(pauses.back(), 120);
}

// A moment's disturbance: where a core was idle since, threads are let in again after 25 ms, and, if they
// have brought nothing by then, after twice as long each time. Where none was, not before a second is over.
TEST(HelpAccountTest, LetsThemInWhereCoresAreIdle) {
  constexpr int64_t kMs = 1'000'000;
  static int64_t now, idle_percent;
  const auto idle_clock = [] { return now * idle_percent / 100; };
  std::vector<int64_t> pauses;
  const auto pause_after = [&](HelpAccount& account, int64_t loss) {
    account.book(0, loss, now);
    const int64_t closed = now;
    while (!account.open(now)) now += kMs;
    pauses.push_back((now - closed) / kMs);
  };
  now = 0, idle_percent = 100;
  HelpAccount account(idle_clock);
  for (int i = 0; i < 3; ++i) pause_after(account, kMs / 2);
  EXPECT_EQ(pauses, (std::vector<int64_t>{25, 50, 100}));
  for (int i = 0; i < 100; ++i) account.book(kMs, 0, now);
  pause_after(account, 5 * kMs);
  EXPECT_EQ(pauses.back(), 24);  // 24 times what good times did not pay for
  for (int i = 0; i < 100; ++i) account.book(kMs, 0, now);
  pause_after(account, 50 * kMs);
  EXPECT_EQ(pauses.back(), 25);

  idle_percent = 20;
  HelpAccount busy(idle_clock);
  pauses.clear();
  for (int i = 0; i < 3; ++i) pause_after(busy, kMs / 2);
  EXPECT_EQ(pauses, (std::vector<int64_t>{1000, 4000, 4000}));
  for (int i = 0; i < 100; ++i) busy.book(kMs, 0, now);
  pause_after(busy, 7 * kMs);  // 4 ms of them are paid for, and good times were no accident
  EXPECT_EQ(pauses.back(), 72);
}

TEST(HelpAccountTest, GoodTimesPayForOneStall) {
  constexpr int64_t kMs = 1'000'000;
  HelpAccount account(not_known);
  for (int loop = 0; loop < 100; ++loop) account.book(kMs, kMs / 100, loop * kMs);
  account.book(0, 4 * kMs, 200 * kMs);
  EXPECT_TRUE(account.open(200 * kMs));
  account.book(0, 4 * kMs, 210 * kMs);  // not for two
  EXPECT_FALSE(account.open(210 * kMs));
}

// Loses a twentieth at most, whatever the threads cost, and be cores idle that they do not get.
TEST(HelpAccountTest, NeverLosesMuch) {
  constexpr int64_t kMs = 1'000'000;
  static int64_t now;
  for (const HelpAccount::IdleClock idle_clock : {not_known, +[] { return 4 * now; }}) {
    HelpAccount account(idle_clock);
    int64_t lost = 0;
    now = 0;
    while (now < 10'000 * kMs) {
      if (!account.open(now)) {
        now += kMs;
        continue;
      }
      now += 9 * kMs, lost += 8 * kMs;
      account.book(kMs / 10, 8 * kMs, now);
    }
    EXPECT_LT(double(lost), 0.05 * double(now));
  }
}

TEST(ComputeThreadsTest, FollowsWhatIsSet) {
  set_compute_threads(3);
  EXPECT_EQ(compute_threads(), 3);
  set_compute_threads(100'000);
  EXPECT_EQ(compute_threads(), kMostThreads);
  set_compute_threads(0);
  EXPECT_GE(compute_threads(), 1);
}

}  // namespace
}  // namespace plume::thread_pool_test
