// When a run draws a bar, and that everything else it says is plain.
#include "tools/cli/progress.h"

#include <gtest/gtest.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <map>
#include <thread>

#include "tests/support/test_support.h"

namespace plume::tools::progress_test {
namespace {

using Environment = std::map<std::string, std::string>;

Environment& environment() {
  static Environment variables;
  return variables;
}

bool shown(bool terminal, const Environment& variables) {
  environment() = variables;
  return shows_bar(terminal, [](const char* name) -> const char* {
    const auto found = environment().find(name);
    return found == environment().end() ? nullptr : found->second.c_str();
  });
}

TEST(ProgressTest, ABarIsForTerminalsAlone) {
  EXPECT_TRUE(shown(true, {{"TERM", "xterm"}}));
  EXPECT_TRUE(shown(true, {{"TERM", "xterm"}, {"NO_COLOR", ""}}));
  EXPECT_FALSE(shown(false, {{"TERM", "xterm"}}));
  EXPECT_FALSE(shown(true, {}));
  EXPECT_FALSE(shown(true, {{"TERM", "dumb"}}));
  EXPECT_FALSE(shown(true, {{"TERM", "xterm"}, {"NO_COLOR", "1"}}));
  for (const char* launcher : {"OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMI_SIZE", "PMIX_RANK", "SLURM_PROCID"})
    EXPECT_FALSE(shown(true, {{"TERM", "xterm"}, {launcher, "1"}})) << launcher;
}

// What a process says on a terminal of its own.
std::string said_on_terminal(const Environment& variables) {
  int master = -1;
  const pid_t child = forkpty(&master, nullptr, nullptr, nullptr);
  if (child == 0) {
    for (const char* name :
         {"TERM", "NO_COLOR", "OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMI_SIZE", "PMIX_RANK", "SLURM_PROCID"})
      unsetenv(name);
    for (const auto& [name, value] : variables) setenv(name.c_str(), value.c_str(), 1);
    Progress progress;
    std::this_thread::sleep_for(std::chrono::milliseconds(250));
    progress.update({.label = "epoch 1/2", .done = 1, .total = 2});
    progress.line("epoch 1/2: done with \x1b[31mred\rname");
    _exit(0);
  }
  std::string text;
  char buffer[4096];
  for (ssize_t n; (n = read(master, buffer, sizeof buffer)) > 0;) text.append(buffer, size_t(n));
  close(master);
  waitpid(child, nullptr, 0);
  return text;
}

TEST(ProgressTest, UnderALauncherATerminalGetsPlainLines) {
  const std::string bar = said_on_terminal({{"TERM", "xterm"}});
  EXPECT_NE(bar.find("\r\033[K"), std::string::npos) << bar;
  EXPECT_NE(bar.find("1/2"), std::string::npos) << bar;
  for (const Environment& plain :
       {Environment{{"TERM", "xterm"}, {"OMPI_COMM_WORLD_SIZE", "1"}}, Environment{{"TERM", "dumb"}},
        Environment{{"TERM", "xterm"}, {"NO_COLOR", "1"}}}) {
    // The terminal itself makes \r\n of \n.
    EXPECT_EQ(said_on_terminal(plain), "epoch 1/2: done with \\x1b[31mred name\r\n");
  }
}

}  // namespace
}  // namespace plume::tools::progress_test
