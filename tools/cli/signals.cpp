#include "tools/cli/signals.h"

#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <ctime>

namespace plume::tools {
namespace {

// A terminal that is closed hangs up twice, by its shell and by the kernel; a launcher signals a process that
// its parent signals, too. What comes twice within this time was meant once.
constexpr int64_t kSameMillis = 300;

volatile std::sig_atomic_t stop = 0;
volatile int64_t stopped_at = 0;  // written once, before `stop`

int64_t millis() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t(now.tv_sec) * 1000 + now.tv_nsec / 1'000'000;
}

void on_signal(int signal) {
  if (!stop) {
    stopped_at = millis();
    stop = signal;
  } else if (signal != stop || millis() - stopped_at > kSameMillis) {
    _exit(128 + signal);
  }
}

// Handlers run on a stack of their own. While oneDNN multiplies large matrices its stack pointer points into
// a buffer on the heap, and what a signal pushes there destroys what lies before it.
void separate_stack() {
  constexpr size_t kBytes = 64 << 10;  // a signal saves all vector registers: up to 11 KiB
  alignas(64) static char stack[kBytes];
  stack_t there{};
  if (sigaltstack(nullptr, &there) == 0 && (there.ss_flags & SS_DISABLE) == 0) return;
  stack_t own{};
  own.ss_sp = stack;
  own.ss_size = kBytes;
  sigaltstack(&own, nullptr);
}

}  // namespace

void catch_signals() {
  separate_stack();
  constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2};
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART | SA_ONSTACK;
  for (const int signal : kSignals) sigaddset(&action.sa_mask, signal);
  for (const int signal : kSignals) {
    struct sigaction before {};
    sigaction(signal, nullptr, &before);
    // A script's background jobs ignore SIGINT, and yet `kill -INT` is meant for them.
    const bool may_stay = signal != SIGINT && signal != SIGTERM;
    if (may_stay && before.sa_handler == SIG_IGN) continue;
    sigaction(signal, &action, nullptr);
  }
}

int stop_signal() { return stop; }

}  // namespace plume::tools
