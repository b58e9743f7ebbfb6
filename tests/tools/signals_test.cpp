// Which signals ask a program to stop, and which end it.
#include "tools/cli/signals.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <functional>
#include <iterator>
#include <thread>

namespace plume::tools::signals_test {
namespace {

constexpr int kAsking[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2};
constexpr auto kLater = std::chrono::milliseconds(400);

// The exit code of a process that does it; 128 + signal where a signal ended it.
int code_of(const std::function<int()>& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST(SignalsTest, TheFirstAsks) {
  for (const int signal : kAsking)
    EXPECT_EQ(code_of([&] {
                catch_signals();
                raise(signal);
                return stop_signal();
              }),
              signal);
}

// oneDNN moves the stack pointer into the heap while it multiplies large matrices: a handler on the thread's
// own stack would write there.
TEST(SignalsTest, HandlersHaveAStackOfTheirOwn) {
  EXPECT_EQ(code_of([] {
              stack_t none{};
              none.ss_flags = SS_DISABLE;
              sigaltstack(&none, nullptr);
              catch_signals();
              stack_t there{};
              sigaltstack(nullptr, &there);
              int on_it = 0;
              for (const int signal : kAsking) {
                struct sigaction action {};
                sigaction(signal, nullptr, &action);
                on_it += (action.sa_flags & SA_ONSTACK) != 0;
              }
              constexpr size_t kEnough = 32 << 10;
              return (there.ss_flags & SS_DISABLE) == 0 && there.ss_size >= kEnough ? on_it : -1;
            }),
            int(std::size(kAsking)));
}

TEST(SignalsTest, TheSecondEndsAtOnce) {
  for (const int signal : kAsking) {
    EXPECT_EQ(code_of([&] {
                catch_signals();
                raise(signal == SIGTERM ? SIGINT : SIGTERM);
                raise(signal);
                return 0;
              }),
              128 + signal);
    EXPECT_EQ(code_of([&] {
                catch_signals();
                raise(signal);
                std::this_thread::sleep_for(kLater);
                raise(signal);
                return 0;
              }),
              128 + signal);
  }
}

// A terminal that closes hangs up twice within milliseconds.
TEST(SignalsTest, TheSameOneRightAfterIsOne) {
  for (const int signal : kAsking)
    EXPECT_EQ(code_of([&] {
                catch_signals();
                raise(signal);
                raise(signal);
                return stop_signal();
              }),
              signal);
}

TEST(SignalsTest, WhatIsIgnoredStaysIgnored) {
  for (const int signal : {SIGHUP, SIGUSR1, SIGUSR2})
    EXPECT_EQ(code_of([&] {
                std::signal(signal, SIG_IGN);
                catch_signals();
                raise(signal);
                return stop_signal();
              }),
              0);
}

}  // namespace
}  // namespace plume::tools::signals_test
