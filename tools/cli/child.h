// Programs of this build as child processes.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace plume::tools {

struct ChildResult {
  int code = 0;            // exit code; 128 + signal when a signal ended the process
  int64_t peak_bytes = 0;  // largest resident memory
  std::string error;       // its last line on stderr, when it failed
};

// Runs the program `words[0]` from this program's own folder, waits for it, and appends its command line and
// all that it says to the file `log`. The first SIGINT or SIGTERM that this process gets is passed on; the
// child also gets SIGTERM when this process dies. It keeps the file `lock` open, and sees no variables of
// MPI's or SLURM's. Throws resource when there is no such program or no process to be had.
ChildResult run_child(const std::vector<std::string>& words, const std::string& log, int lock,
                      const std::string& out = "");

}  // namespace plume::tools
