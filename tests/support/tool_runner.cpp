#include "tests/support/tool_runner.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <thread>

#include "engine/core/error.h"
#include "tests/support/test_support.h"

namespace plume::test {
namespace {

constexpr auto kLongest = std::chrono::minutes(10);
constexpr auto kPoll = std::chrono::milliseconds(2);

[[noreturn]] void become(const std::vector<std::string>& command, const std::string& out,
                         const std::string& err) {
  dup2(open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDOUT_FILENO);
  dup2(open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDERR_FILENO);
  std::vector<char*> argv;
  for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  execv(argv[0], argv.data());
  _exit(127);
}

std::string path_of(const std::string& tool) { return message("{}/bin/{}", PLUME_BINARY_DIR, tool); }

// Sends the signal when `due` says so.
ToolResult run(std::vector<std::string> command, const std::vector<std::string>& arguments, int signal,
               const std::function<bool(const std::string& out)>& due, bool& sent) {
  const TemporaryFolder folder;
  const std::string out = folder.file("out"), err = folder.file("err");
  write_file(out, "");
  command.insert(command.end(), arguments.begin(), arguments.end());
  const pid_t child = fork();
  if (child == 0) become(command, out, err);
  const auto start = std::chrono::steady_clock::now();
  int status = 0;
  while (waitpid(child, &status, WNOHANG) == 0) {
    if (!sent && due && due(out)) {
      kill(child, signal);
      sent = true;
    }
    if (std::chrono::steady_clock::now() - start > kLongest) {
      kill(child, SIGKILL);
      ADD_FAILURE() << command[0] << " does not end";
    }
    std::this_thread::sleep_for(kPoll);
  }
  ToolResult result;
  result.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result.out = read_file(out);
  result.err = read_file(err);
  return result;
}

}  // namespace

ToolResult run_tool(const std::string& tool, const std::vector<std::string>& arguments, int signal,
                    const std::function<bool(const std::string&)>& ready) {
  bool sent = false;
  const auto due = [&](const std::string& out) { return ready && ready(read_file(out)); };
  const ToolResult result = run({path_of(tool)}, arguments, signal, due, sent);
  EXPECT_TRUE(sent || !ready) << tool << " ended before the signal was due";
  return result;
}

ToolResult run_tool_for(const std::string& tool, const std::vector<std::string>& arguments,
                        std::chrono::milliseconds time) {
  bool sent = false;
  const auto start = std::chrono::steady_clock::now();
  const auto due = [&](const std::string&) { return std::chrono::steady_clock::now() - start >= time; };
  return run({path_of(tool)}, arguments, SIGKILL, due, sent);
}

ToolResult run_command(const std::string& program, const std::vector<std::string>& arguments) {
  bool sent = false;
  return run({program}, arguments, 0, {}, sent);
}

void expect_refusal(const ToolResult& result, int code, const std::vector<std::string>& words) {
  EXPECT_EQ(result.code, code) << result.err;
  const size_t end = result.err.find('\n');
  EXPECT_EQ(end + 1, result.err.size()) << "not one line: " << result.err;
  for (const std::string& word : words)
    EXPECT_NE(result.err.find(word), std::string::npos) << "'" << word << "' is not in: " << result.err;
}

}  // namespace plume::test
