#include "tools/cli/signals.h"

#include <unistd.h>

#include <csignal>

namespace plume::tools {
namespace {

volatile std::sig_atomic_t stop = 0;

void on_signal(int signal) {
  if (stop) _exit(128 + signal);
  stop = signal;
}

}  // namespace

void catch_signals() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

int stop_signal() { return stop; }

}  // namespace plume::tools
