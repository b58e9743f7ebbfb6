// Machine code of kernels for tests, where nvcc and nvdisasm are.
#pragma once
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/tool_runner.h"

namespace plume::test {

// Writes the machine code of sources (default: all kernels, out of the build's objects where it has some for
// this architecture) to a folder. False where a program is missing.
inline bool write_machine_code(const std::string& folder, const std::vector<std::string>& sources = {}) {
  constexpr int kMissing = 77;
  std::vector<std::string> arguments{"--sass", folder};
#ifdef PLUME_KERNEL_OBJECTS
  if (sources.empty()) arguments.insert(arguments.end(), {"--objects", PLUME_KERNEL_OBJECTS});
#endif
  arguments.insert(arguments.end(), sources.begin(), sources.end());
  const ToolResult result = run_command(PLUME_SOURCE_DIR "/tools/kernel_report.sh", arguments);
  if (result.code == kMissing) return false;
  EXPECT_EQ(result.code, 0) << result.err;
  return true;
}

}  // namespace plume::test
