// Whatever a program throws ends in one line and a documented exit code.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <regex>
#include <stdexcept>
#include <thread>

#include "engine/core/text.h"
#include "tests/support/test_support.h"
#include "tests/support/tool_runner.h"
#include "tools/cli/json.h"
#include "tools/cli/main.h"

namespace plume::test::run_tool_test {
namespace {

namespace fs = std::filesystem;

// run_tool() in a process of its own, which ends with its code.
ToolResult run_body(const std::function<void()>& body) {
  const TemporaryFolder folder;
  const std::string err = folder.file("err");
  const pid_t child = fork();
  if (child == 0) {
    dup2(open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDERR_FILENO);
    char name[] = "tool", *argv[] = {name, nullptr};
    _exit(tools::run_tool(1, argv, "", [&](tools::Flags&) {
      body();
      return 0;
    }));
  }
  int status = 0;
  waitpid(child, &status, 0);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), "", read_file(err)};
}

void throw_from_json(const char* text) {
  const tools::Json json = tools::Json::parse(text);
  (void)json.at("key").get<int>();
}

std::string bytes_that_are_no_text() { return "caf\xE9"; }

TEST(RunToolTest, EveryExceptionHasACode) {
  using Condition = std::errc;
  const auto file_error = [](Condition c) {
    return [c] { throw fs::filesystem_error("status", "some/file", std::make_error_code(c)); };
  };
  const struct {
    std::function<void()> body;
    int code;
    const char* words;
  } cases[] = {
      {[] { fail(ErrorKind::usage, "a flag"); }, 2, "a flag"},
      {[] { fail(ErrorKind::bad_input, "a\nfile"); }, 3, "a file"},
      {[] { fail(ErrorKind::resource, "a disk"); }, 4, "a disk"},
      {[] { fail(ErrorKind::numeric, "a NaN"); }, 5, "a NaN"},
      {[] { fail(ErrorKind::internal, "a promise"); }, 1, "fault of plume: a promise"},
      {[] { throw std::bad_alloc(); }, 4, "out of memory"},
      {[] { throw std::bad_array_new_length(); }, 4, "out of memory"},
      {[] { std::vector<int>().reserve(SIZE_MAX); }, 4, "out of memory"},
      {[] { throw_from_json("{"); }, 3, "JSON"},
      {[] { throw_from_json("{}"); }, 3, "JSON"},
      {[] { throw_from_json(R"({"key": "text"})"); }, 3, "JSON"},
      {[] { (void)tools::Json(bytes_that_are_no_text()).dump(); }, 3, "JSON"},
      {file_error(Condition::filename_too_long), 3, "some/file"},
      {file_error(Condition::not_a_directory), 3, "some/file"},
      {file_error(Condition::permission_denied), 3, "some/file"},
      {file_error(Condition::no_space_on_device), 4, "some/file"},
      {file_error(Condition::too_many_files_open), 4, "some/file"},
      {[] { (void)fs::directory_iterator("/nowhere"); }, 3, "/nowhere"},
      {[] { throw std::system_error(std::make_error_code(Condition::resource_unavailable_try_again)); }, 4,
       ""},
      {[] { (void)std::regex("("); }, 1, "fault of plume"},
      {[] { (void)std::stoi("x"); }, 1, "fault of plume"},
      {[] { throw 42; }, 1, "fault of plume"},
      {[] { std::thread([] { fail(ErrorKind::resource, "a thread"); }).join(); }, 4, "a thread"},
      {[] { std::thread([] { throw 42; }).join(); }, 1, "fault of plume"},
  };
  for (size_t i = 0; i < std::size(cases); ++i) {
    SCOPED_TRACE(i);
    const ToolResult result = run_body(cases[i].body);
    expect_refusal(result, cases[i].code, {cases[i].words});
    EXPECT_TRUE(result.err.starts_with("tool: ")) << result.err;
  }
}

TEST(RunToolTest, LinesHoldNoControlCharacters) {
  EXPECT_EQ(tools::one_line("a\nb\r\nc\td"), "a b  c d");
  EXPECT_EQ(tools::one_line("\x1b[31mred\x7f\x01"), "\\x1b[31mred\\x7f\\x01");
  EXPECT_EQ(tools::one_line("caf\xC3\xA9"), "caf\xC3\xA9");
  EXPECT_LT(tools::one_line(std::string(1'000'000, 'x')).size(), 10'000u);
}

TEST(RunToolTest, ListsAreBrief) {
  EXPECT_EQ(brief_list({}, ""), "");
  EXPECT_EQ(brief_list({"a"}, ""), "a");
  EXPECT_EQ(brief_list({"a", "b", "c", "d", "e"}, ""), "a, b, c, d, e");
  EXPECT_EQ(brief_list({"a", "b", "c", "d", "e", "f", "g"}, ""), "a, b, c, d, e and 2 more");
}

}  // namespace
}  // namespace plume::test::run_tool_test
