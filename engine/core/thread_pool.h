// The threads of the cpu device: they share out the pieces of one loop, and sleep when there is none.
//
// Other programs use the same cores, so the system may take a thread's core away at any moment, for
// milliseconds: far longer than most loops last. Five rules keep that from spreading.
//
//   Nobody waits for a thread, only for a piece. The caller works on the pieces too, and returns when all are
//   done: a thread that has not begun one is not waited for, so with every other thread asleep the loop runs
//   as on one thread.
//   Nobody spins for long. Threads look for the next loop, and the caller for the last piece, for 50
//   microseconds, which bridges the gap between two loops; then they sleep until they are called.
//   Pieces are small, and each thread begins with its own share, the same in every loop over as many pieces
//   (its part of the data lies in its core's cache), and goes on with what the others have left.
//   Nobody stands in the caller's way. The system likes to wake a thread where its waker runs, and on a busy
//   machine leaves it there: it would work instead of the caller, not beside it. A thread that finds itself
//   on the caller's core moves to another one, and where there is none leaves the pieces to the caller.
//   Threads must earn their keep. A piece that was begun and then descheduled must be waited for; what that
//   costs is measured loop by loop (HelpAccount), and where it exceeds what the threads bring, loops run on
//   the caller alone for at least 24 times the loss, or four seconds; for less where cores turn out to be
//   idle meanwhile: then it was a moment's disturbance. So n threads never lose more than a few hundredths
//   against one, however busy the machine, nor much where it was busy a moment ago.
//
// Who may call what: any thread may run a loop. One loop at a time is shared out; a loop inside a piece, or
// beside another caller's loop, is left to its caller. In the child of a fork there are no threads yet; the
// first loop starts them.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/core/cpu_count.h"

namespace plume {

inline constexpr int kMostThreads = 256;

// How many threads share a loop, the caller's among them: what set_compute_threads() said, else
// default_threads() of core/cpu_count.h. Results do not depend on it.
int compute_threads();
// For loops that begin afterwards, on every thread; at most kMostThreads. 0: the default again.
void set_compute_threads(int threads);

// For tests of results: while on, loops are shared out however short they are and whatever it costs.
void share_every_loop(bool on);
bool shares_every_loop();

// What the other threads brought and cost lately, in nanoseconds of the callers' time.
class HelpAccount {
 public:
  // How long cores have been idle, all together, or -1 (idle_nanoseconds() of core/cpu_count.h).
  using IdleClock = int64_t (*)();
  explicit HelpAccount(IdleClock idle_clock) : idle_clock_(idle_clock) {}

  bool open(int64_t now) { return now >= closed_until_ || (now >= next_look_ && cores_were_idle(now)); }
  // After a loop: `saved` is the work that the caller did not have to do, `lost` the time it spent on calling
  // the others, on waiting for them, and without its core.
  void book(int64_t saved, int64_t lost, int64_t now);

 private:
  // Opens it, if a quarter of a core or more was idle since the last look.
  bool cores_were_idle(int64_t now);

  // Loops go to the caller alone for this many times a loss, and four times as long each time that the
  // threads have brought nothing to speak of since they were last let in; from a second on where it can be
  // seen that no core is idle. Looks at idle cores are at first as far apart as the system's count of them
  // allows, and each time twice as far.
  static constexpr int64_t kPause = 24, kFirstPause = 120'000'000, kLongestPause = 4'000'000'000;
  static constexpr int64_t kFirstLook = 25'000'000, kBusyPause = 1'000'000'000;
  int64_t balance_ = 0, since_opening_ = 0, closed_until_ = 0, useless_pause_ = kFirstPause;
  IdleClock idle_clock_;
  int64_t next_look_ = 0, between_looks_ = kFirstLook / 2;
  int64_t looked_at_ = -1, idle_then_ = -1;  // -1: not since it was closed
  bool useless_ = false;                     // what it was closed for
};

class ThreadPool {
 public:
  ThreadPool() = default;
  ~ThreadPool();  // no loop may be under way
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // The one that parallel loops use; never destroyed.
  static ThreadPool& shared();

  // Calls f(piece) for 0 <= piece < pieces, in no particular order, on at most `threads` threads. Returns
  // false, having called nothing, where that is better left to the caller: one thread or piece, a loop inside
  // a piece, another caller's loop under way, or threads that do not earn their keep now. What a piece
  // throws is thrown to the caller when the pieces that were begun are done; the others are left out.
  template <class F>
  bool run(int64_t pieces, int threads, const F& f) {
    return share_out(pieces, threads, {[](const void* g, int64_t i) { (*static_cast<const F*>(g))(i); }, &f});
  }

  int workers() const { return int(workers_.size()); }  // begun so far; for tests, while no loop runs

 private:
  struct Work {
    void (*call)(const void* function, int64_t piece);
    const void* function;
  };
  // Pieces first..end-1 are left, as first << 32 | end: taking one is a single compare-and-swap. A share is
  // refilled only when all its pieces are done, so whoever takes one knows that the rest of the job is set.
  struct alignas(64) Share {
    std::atomic<uint64_t> left{0};
  };
  struct alignas(64) Worker {
    std::atomic<uint32_t> calls{0};
    std::atomic<bool> asleep{false};
    std::thread thread;
  };

  bool share_out(int64_t pieces, int threads, Work work);
  void start_workers(int count);
  void call(Worker& worker);
  bool wait_for_call(Worker& worker, uint32_t& seen);
  int64_t take_pieces(int first_share);
  void count_done(int64_t pieces);
  void wait_for_all_pieces();

  std::mutex caller_;  // held by the thread whose loop is shared out; guards workers_ and account_
  std::vector<std::unique_ptr<Worker>> workers_;
  int most_workers_ = kMostThreads - 1;  // fewer where the system gave no more
  HelpAccount account_{[] { return idle_nanoseconds(); }};
  std::atomic<bool> stopping_{false};

  // The job. Written by the caller while no piece is left, read by those who have taken one.
  Work work_{};
  std::array<Share, kMostThreads> shares_;
  std::atomic<int> share_count_{0}, caller_core_{-1};
  alignas(64) std::atomic<uint32_t> pending_{0};  // pieces that are not done
  std::atomic<bool> caller_asleep_{false};
  // Nanoseconds per piece, in 256ths, of the thread that was fastest: those of one that lost its core say
  // nothing about the work.
  std::atomic<int64_t> pace_{0};
  std::atomic<bool> failed_{false};
  std::exception_ptr error_;  // of the thread that set failed_
};

}  // namespace plume
