// SIGINT and SIGTERM: the first asks the tool to finish what it is at, the second ends it at once.
#pragma once

namespace plume::tools {

void catch_signals();
// 0, or the signal that asked to stop. The exit code is then 128 + signal.
int stop_signal();

}  // namespace plume::tools
