// A machine with other work to do: two threads must not be slower than one.
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>

#include "engine/core/thread_pool.h"
#include "engine/ops/softmax_cross_entropy.h"
#include "models/registry.h"
#include "tests/support/networks.h"

namespace plume::busy_test {
namespace {

constexpr int kCores = 2, kLoopsPerCore = 2;

cpu_set_t allowed_cores() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  sched_getaffinity(0, sizeof allowed, &allowed);
  return allowed;
}

// While alive confines this thread, and all it starts, to two cores: the load is then known whatever the
// machine.
class OnTwoCores {
 public:
  OnTwoCores() : before_(allowed_cores()) {
    cpu_set_t two;
    CPU_ZERO(&two);
    for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&two) < kCores; ++cpu)
      if (CPU_ISSET(cpu, &before_)) CPU_SET(cpu, &two);
    done_ = CPU_COUNT(&two) == kCores && sched_setaffinity(0, sizeof two, &two) == 0;
  }
  ~OnTwoCores() { sched_setaffinity(0, sizeof before_, &before_); }
  OnTwoCores(const OnTwoCores&) = delete;
  OnTwoCores& operator=(const OnTwoCores&) = delete;
  bool done() const { return done_; }

 private:
  cpu_set_t before_;
  bool done_ = false;
};

// Processes that never sleep, and end with this one at the latest.
class BusyLoops {
 public:
  explicit BusyLoops(int count) {
    for (int i = 0; i < count; ++i) {
      const pid_t child = fork();
      if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (volatile uint64_t n = 0;;) n = n + 1;
      }
      if (child > 0) children_.push_back(child);
    }
  }
  ~BusyLoops() {
    for (const pid_t child : children_) kill(child, SIGKILL), waitpid(child, nullptr, 0);
  }
  BusyLoops(const BusyLoops&) = delete;
  BusyLoops& operator=(const BusyLoops&) = delete;
  int count() const { return int(children_.size()); }

 private:
  std::vector<pid_t> children_;
};

// Seconds per call of f on so many threads, over at least `least` seconds.
template <class F>
double seconds_per_call(int threads, double least, const F& f) {
  using Clock = std::chrono::steady_clock;
  set_compute_threads(threads);
  const Clock::time_point begin = Clock::now();
  int calls = 0;
  double seconds = 0;
  do {
    f();
    ++calls;
    seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  } while (seconds < least);
  set_compute_threads(0);
  return seconds / calls;
}

// Threads that wait for each other by spinning take 30 to 70 times as long here; what is left is the system's
// moods. Interleaved, so that they touch both.
template <class F>
void expect_two_threads_no_slower(const F& f) {
  constexpr int kRounds = 6;
  double one = 0, two = 0;
  f(), f();
  for (int round = 0; round < kRounds; ++round) {
    one += seconds_per_call(1, 0.25, f);
    two += seconds_per_call(2, 0.25, f);
  }
  std::printf("%.2f ms on one thread, %.2f ms on two\n", one / kRounds * 1e3, two / kRounds * 1e3);
  EXPECT_LE(two, 2 * one);
}

TEST(BusyMachineTest, OtherTestsGetTheirCoresBack) {
  const cpu_set_t before = allowed_cores();
  if (CPU_COUNT(&before) < kCores) GTEST_SKIP() << "fewer than two cores";
  { const OnTwoCores confined; }
  const cpu_set_t after = allowed_cores();
  EXPECT_TRUE(CPU_EQUAL(&before, &after));
}

TEST(BusyMachineTest, TwoThreadsAreNoSlowerThanOne) {
  const OnTwoCores confined;
  if (!confined.done()) GTEST_SKIP() << "fewer than two cores";
  const BusyLoops loops(kCores * kLoopsPerCore);
  ASSERT_EQ(loops.count(), kCores * kLoopsPerCore);

  const auto network = make_model("mobilenet_v3_small", {.num_classes = 10});
  network->eval();
  network->fuse();
  const Variable image(test::random_images(1, 224));
  expect_two_threads_no_slower([&] {
    const NoGrad no_grad;
    network->forward(image);
  });

  const auto trained = make_model("resnet18", {.num_classes = 10});
  const Variable images(test::random_images(16, 32));
  const Tensor labels = Tensor::from(std::vector<int32_t>(16, 3), {16}, Device::cpu);
  expect_two_threads_no_slower([&] {
    backward(softmax_cross_entropy(trained->forward(images), {labels, {}}));
  });
}

}  // namespace
}  // namespace plume::busy_test
