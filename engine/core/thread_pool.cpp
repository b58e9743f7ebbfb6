#include "engine/core/thread_pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <new>
#include <system_error>
#include <utility>

namespace plume {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::microseconds kSpin{50};

int64_t now_ns() { return Clock::now().time_since_epoch() / std::chrono::nanoseconds(1); }

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// The system's sleep. Neither a lock, whose holder may have lost its core, nor std::atomic::wait, which first
// gives the core away to whoever spins on it.
long futex(std::atomic<uint32_t>& word, int operation, uint32_t value) {
  static_assert(sizeof word == sizeof value && std::atomic<uint32_t>::is_always_lock_free);
  return syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), operation, value, nullptr, nullptr, 0);
}
void sleep_while(std::atomic<uint32_t>& word, uint32_t value) { futex(word, FUTEX_WAIT_PRIVATE, value); }
void wake(std::atomic<uint32_t>& word) { futex(word, FUTEX_WAKE_PRIVATE, 1); }

// Whether `ready` within kSpin.
template <class Ready>
bool spin(const Ready& ready) {
  constexpr int kLooksPerClock = 16;
  const Clock::time_point end = Clock::now() + kSpin;
  do {
    for (int i = 0; i < kLooksPerClock; ++i) {
      if (ready()) return true;
      relax();
    }
  } while (Clock::now() < end);
  return false;
}

// Moves this thread to another core than `core`, of those that it was given. False where there is no other.
bool leave_core(int core, cpu_set_t given) {
  CPU_CLR(core, &given);
  return CPU_COUNT(&given) > 0 && sched_setaffinity(0, sizeof given, &given) == 0;
}

thread_local bool inside_piece = false;

std::atomic<int> chosen_threads{0};
std::atomic<bool> every_loop{false};

std::atomic<ThreadPool*> shared_pool{nullptr};
std::mutex shared_pool_mutex;

// The child has the forking thread only, and locks that others held stay locked: it begins with a new pool.
void leave_pool_to_parent() {
  shared_pool.store(nullptr);
  new (&shared_pool_mutex) std::mutex;
}

}  // namespace

int compute_threads() {
  const int chosen = chosen_threads.load(std::memory_order_relaxed);
  if (chosen > 0) return chosen;
  static const int by_default = std::min(default_threads(), kMostThreads);
  return by_default;
}

void set_compute_threads(int threads) { chosen_threads = std::clamp(threads, 0, kMostThreads); }

void share_every_loop(bool on) { every_loop = on; }
bool shares_every_loop() { return every_loop.load(std::memory_order_relaxed); }

void HelpAccount::book(int64_t saved, int64_t lost, int64_t now) {
  // A core that is taken away costs some milliseconds. Good times pay for one such; a loss below the least is
  // noise.
  constexpr int64_t kMostCredit = 4'000'000, kLeastLoss = 300'000;
  // Other programs are moved onto the caller's core when our threads wake, and stay there for a while. No
  // loop shows what that costs (30 to 60 ms by the scheduler's own account), but it follows every time.
  constexpr int64_t kDisturbance = 50'000'000;
  since_opening_ += saved - lost;
  balance_ = std::min(balance_ + saved - lost, kMostCredit);
  if (balance_ > -kLeastLoss) return;
  int64_t pause = -balance_ * kPause;
  useless_ = since_opening_ < kDisturbance;
  if (!useless_) {
    useless_pause_ = kFirstPause;
    between_looks_ = kFirstLook;
  } else {
    pause = std::max(pause, useless_pause_);
    useless_pause_ = std::min(4 * useless_pause_, kLongestPause);
    between_looks_ = std::min(2 * between_looks_, kLongestPause);
  }
  closed_until_ = now + std::min(pause, kLongestPause);
  balance_ = since_opening_ = 0;
  next_look_ = now;
  looked_at_ = -1;
}

bool HelpAccount::cores_were_idle(int64_t now) {
  constexpr int64_t kLooksCost = 100;  // at most a hundredth of the time
  const int64_t begin = now_ns(), idle = idle_clock_(), cost = now_ns() - begin;
  const int64_t since = std::exchange(looked_at_, now), before = std::exchange(idle_then_, idle);
  next_look_ = idle < 0 ? closed_until_ : now + std::max(between_looks_, kLooksCost * cost);
  if (idle < 0) return false;
  if (since < 0) {  // the first look
    if (useless_) {
      closed_until_ = std::max(closed_until_, now + kBusyPause);
      useless_pause_ = std::max(useless_pause_, std::min(4 * kBusyPause, kLongestPause));
    }
    return false;
  }
  if (before < 0 || 4 * (idle - before) < now - since) return false;
  closed_until_ = now;
  return true;
}

ThreadPool& ThreadPool::shared() {
  if (ThreadPool* pool = shared_pool.load(std::memory_order_acquire)) return *pool;
  const std::lock_guard lock(shared_pool_mutex);
  if (!shared_pool) {
    static const int registered = pthread_atfork(nullptr, nullptr, leave_pool_to_parent);
    (void)registered;
    shared_pool.store(new ThreadPool, std::memory_order_release);
  }
  return *shared_pool;
}

ThreadPool::~ThreadPool() {
  stopping_ = true;
  for (const auto& worker : workers_) call(*worker);
  for (const auto& worker : workers_) worker->thread.join();
}

// Fewer where the system has no more threads.
void ThreadPool::start_workers(int count) {
  while (int(workers_.size()) < std::min(count, most_workers_)) {
    workers_.push_back(std::make_unique<Worker>());
    Worker& worker = *workers_.back();
    const int share = int(workers_.size());
    try {
      worker.thread = std::thread([this, &worker, share] {
        cpu_set_t given;
        CPU_ZERO(&given);
        sched_getaffinity(0, sizeof given, &given);
        uint32_t seen = 0;
        while (wait_for_call(worker, seen)) {
          const int core = caller_core_.load(std::memory_order_relaxed);
          if (sched_getcpu() == core && !leave_core(core, given)) continue;
          if (const int64_t taken = take_pieces(share)) count_done(taken);
        }
      });
    } catch (const std::system_error&) {
      workers_.pop_back();
      most_workers_ = int(workers_.size());
    }
  }
}

// Either the worker sees the call before it sleeps, or the caller sees that it sleeps: the four accesses are
// sequentially consistent.
void ThreadPool::call(Worker& worker) {
  worker.calls.fetch_add(1);
  if (worker.asleep.load() && worker.asleep.exchange(false)) wake(worker.calls);
}

bool ThreadPool::wait_for_call(Worker& worker, uint32_t& seen) {
  const auto called = [&] { return worker.calls.load() != seen; };
  if (!spin(called)) {
    worker.asleep = true;
    while (!called()) sleep_while(worker.calls, seen);
    worker.asleep = false;
  }
  seen = worker.calls.load();
  return !stopping_;
}

int64_t ThreadPool::take_pieces(int first_share) {
  int64_t taken = 0;
  const int64_t begin = now_ns();
  inside_piece = true;
  const int count = share_count_.load(std::memory_order_relaxed);
  for (int i = 0; i < count; ++i) {
    std::atomic<uint64_t>& left = shares_[size_t((first_share + i) % count)].left;
    for (uint64_t seen = left.load(std::memory_order_relaxed); seen >> 32 < (seen & 0xffffffff);) {
      if (!left.compare_exchange_weak(seen, seen + (uint64_t(1) << 32), std::memory_order_acq_rel)) continue;
      ++taken;
      try {
        if (!failed_.load(std::memory_order_relaxed)) work_.call(work_.function, int64_t(seen >> 32));
      } catch (...) {
        if (!failed_.exchange(true)) error_ = std::current_exception();
      }
      seen = left.load(std::memory_order_relaxed);
    }
  }
  inside_piece = false;
  if (taken == 0) return 0;
  const int64_t pace = (now_ns() - begin) * 256 / taken;
  for (int64_t best = pace_.load(); pace < best && !pace_.compare_exchange_weak(best, pace);) {
  }
  return taken;
}

void ThreadPool::count_done(int64_t pieces) {
  if (pending_.fetch_sub(uint32_t(pieces)) != uint32_t(pieces)) return;
  if (caller_asleep_.load()) wake(pending_);
}

void ThreadPool::wait_for_all_pieces() {
  if (spin([&] { return pending_.load() == 0; })) return;
  caller_asleep_ = true;
  while (const uint32_t pending = pending_.load()) sleep_while(pending_, pending);
  caller_asleep_ = false;
}

bool ThreadPool::share_out(int64_t pieces, int threads, Work work) {
  threads = int(std::min<int64_t>({threads, pieces, kMostThreads}));
  if (threads <= 1 || inside_piece) return false;
  const std::unique_lock lock(caller_, std::try_to_lock);
  if (!lock) return false;
  const int64_t begin = now_ns();
  if (!account_.open(begin) && !shares_every_loop()) return false;
  start_workers(threads - 1);
  threads = std::min(threads, workers() + 1);
  if (threads <= 1) return false;

  work_ = work;
  failed_.store(false, std::memory_order_relaxed);
  pending_.store(uint32_t(pieces), std::memory_order_relaxed);
  pace_.store(std::numeric_limits<int64_t>::max(), std::memory_order_relaxed);
  share_count_.store(threads, std::memory_order_relaxed);
  for (int64_t i = 0; i < threads; ++i)
    shares_[size_t(i)].left.store(uint64_t(pieces * i / threads) << 32 | uint64_t(pieces * (i + 1) / threads),
                                  std::memory_order_release);
  caller_core_.store(sched_getcpu(), std::memory_order_relaxed);
  for (int i = 0; i + 1 < threads; ++i) call(*workers_[size_t(i)]);

  const int64_t called = now_ns();
  const int64_t own = take_pieces(0);
  const int64_t finished = now_ns();
  if (own > 0) count_done(own);
  wait_for_all_pieces();
  const int64_t end = now_ns();
  // Had the caller a core to itself, its own pieces would have gone at the best pace: where others run, awake
  // threads of ours bring more of their work onto the caller's core.
  const int64_t pace = pace_.load(), slowed = std::max<int64_t>(0, finished - called - own * pace / 256);
  account_.book((pieces - own) * pace / 256, (called - begin) + slowed + (end - finished), end);
  if (failed_) std::rethrow_exception(std::exchange(error_, nullptr));
  return true;
}

}  // namespace plume
