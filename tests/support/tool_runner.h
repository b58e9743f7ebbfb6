// Runs the tools' binaries and looks at what they say.
#pragma once
#include <chrono>
#include <functional>
#include <string>
#include <vector>

namespace plume::test {

struct ToolResult {
  int code = -1;  // exit code; 128 + signal when a signal ended the process
  std::string out, err;
};

// Runs bin/<tool> of this build. With `ready`, sends `signal` as soon as it returns true; it is asked every
// few milliseconds with what the tool has printed so far. Fails the test when the tool runs for ten minutes.
ToolResult run_tool(const std::string& tool, const std::vector<std::string>& arguments, int signal = 0,
                    const std::function<bool(const std::string& out)>& ready = {});

// Kills the tool after so long, if it has not ended by then.
ToolResult run_tool_for(const std::string& tool, const std::vector<std::string>& arguments,
                        std::chrono::milliseconds time);
// Any program, by its path.
ToolResult run_command(const std::string& program, const std::vector<std::string>& arguments);

// The code is `code`, and stderr is exactly one line that begins with the tool's name and holds every word.
void expect_refusal(const ToolResult& result, int code, const std::vector<std::string>& words);

}  // namespace plume::test
