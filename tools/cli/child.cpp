#include "tools/cli/child.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#if defined(__linux__)
#include <sys/prctl.h>
#endif

#include "engine/core/error.h"
#include "tools/cli/signals.h"

extern char** environ;

namespace plume::tools {
namespace {

namespace fs = std::filesystem;

std::string sibling(const std::string& program) {
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  const std::string path = (self.parent_path() / program).string();
  if (error || access(path.c_str(), X_OK) != 0)
    fail(ErrorKind::resource, "{}: the program {} is not there", path, program);
  return path;
}

// A child that found its parent's MPI or SLURM variables would take itself for a rank.
std::vector<char*> environment_of_child() {
  std::vector<char*> kept;
  for (char** entry = environ; *entry; ++entry) {
    const std::string_view variable = *entry;
    bool keep = true;
    for (const char* prefix : {"OMPI_", "PMIX_", "PMI_", "PRTE_", "MPI_", "SLURM_"})
      keep = keep && !variable.starts_with(prefix);
    if (keep) kept.push_back(*entry);
  }
  kept.push_back(nullptr);
  return kept;
}

int open_log(const std::string& path, int how) {
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | how, 0644);
  if (file < 0) fail(ErrorKind::resource, "{}: cannot be written: {}", path, std::strerror(errno));
  return file;
}

void write_line(int file, const std::string& line) {
  if (write(file, line.data(), line.size()) < 0) fail(ErrorKind::resource, "log: {}", std::strerror(errno));
}

// The last line of the log from `from` on that begins with the program's name, as errors do.
std::string error_line(const std::string& log, std::streamoff from, const std::string& program) {
  std::ifstream in(log, std::ios::binary);
  in.seekg(from);
  std::string found;
  for (std::string line; std::getline(in, line);)
    if (line.starts_with(program + ": ")) found = line;
  return found;
}

// Only what is safe between fork and exec.
[[noreturn]] void become(const char* path, char** argv, char** env, int out, int log, pid_t parent) {
#if defined(__linux__)
  prctl(PR_SET_PDEATHSIG, SIGTERM);
#endif
  if (getppid() != parent) _exit(128 + SIGTERM);
  setpgid(0, 0);  // a terminal's Ctrl-C is for the parent, who passes it on
  dup2(out, STDOUT_FILENO);
  dup2(log, STDERR_FILENO);
  execve(path, argv, env);
  _exit(127);
}

}  // namespace

ChildResult run_child(const std::vector<std::string>& words, const std::string& log_path, int lock,
                      const std::string& out_path) {
  constexpr auto kPoll = std::chrono::milliseconds(5);
  const std::string path = sibling(words.front());
  const int log = open_log(log_path, O_APPEND);
  const int out = out_path.empty() ? log : open_log(out_path, O_TRUNC);
  std::string command = "$";
  for (const std::string& word : words) command += " " + word;
  write_line(log, command + "\n");
  const std::streamoff start = lseek(log, 0, SEEK_END);
  std::vector<char*> argv, env = environment_of_child();
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  fcntl(lock, F_SETFD, 0);
  const pid_t parent = getpid(), child = fork();
  if (child == 0) become(path.c_str(), argv.data(), env.data(), out, log, parent);
  fcntl(lock, F_SETFD, FD_CLOEXEC);
  close(log);
  if (out != log) close(out);
  if (child < 0) fail(ErrorKind::resource, "{}: no process: {}", path, std::strerror(errno));
  int status = 0;
  struct rusage usage {};
  bool passed_on = false;
  while (wait4(child, &status, WNOHANG, &usage) == 0) {
    if (const int signal = stop_signal(); signal && !passed_on) {
      kill(child, signal);
      passed_on = true;
    }
    std::this_thread::sleep_for(kPoll);
  }
  ChildResult result;
  result.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  constexpr int64_t kKilobyte = 1024;
  result.peak_bytes = int64_t(usage.ru_maxrss) * kKilobyte;
  if (result.code == 0) return result;
  result.error = error_line(log_path, start, words.front());
  if (result.error.empty())
    result.error = WIFSIGNALED(status) ? message("{}: ended by signal {}", words.front(), WTERMSIG(status))
                                       : message("{}: ended with exit code {}", words.front(), result.code);
  return result;
}

}  // namespace plume::tools
