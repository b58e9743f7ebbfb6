// Signals that ask a program to stop: SIGINT, SIGTERM, SIGHUP (a closed terminal), SIGUSR1 and SIGUSR2 (what
// SLURM is told to send before a job's time is up). The first asks the program to finish what it is at, the
// second ends it at once. SIGHUP, SIGUSR1 and SIGUSR2 stay ignored where they were ignored at the start, as
// `nohup` and `trap '' USR1` do.
#pragma once

namespace plume::tools {

// On the main thread, which the system prefers for them: handlers get a stack of their own there.
void catch_signals();
// 0, or the signal that asked to stop. The exit code is then 128 + signal.
int stop_signal();

}  // namespace plume::tools
