// What the tests that run `train` on the stand-in share.
#pragma once
#include <gmock/gmock.h>

#include "tests/tools/training_run.h"

namespace plume::test {

// It went as asked, nothing had to be given up, and the stand-in had nothing to remark.
inline void expect_clean_training(const ToolResult& result) {
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.err, testing::Not(testing::HasSubstr("stand-in:")));
  EXPECT_THAT(result.err, testing::Not(testing::HasSubstr("cannot be recorded")));
}

// Copies a run as it was after its second step.
inline void copy_from_second_step(const std::string& run, const std::string& copy) {
  fs::copy(run, copy, fs::copy_options::recursive);
  for (const auto& entry : fs::directory_iterator(copy + "/checkpoints"))
    if (entry.path().string().find("00000002") == std::string::npos) fs::remove(entry.path());
  ASSERT_FALSE(newest_checkpoint(copy).empty());
}

}  // namespace plume::test
