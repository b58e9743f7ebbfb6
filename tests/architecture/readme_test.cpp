// What the README says is what is there.
#include <gtest/gtest.h>

#include <filesystem>

#include "engine/core/text.h"
#include "tests/support/test_support.h"

namespace plume {
namespace {

std::string source(const std::string& path) { return test::read_file(PLUME_SOURCE_DIR "/" + path); }

// The tests compile and run examples/readme_program.cpp; the README shows the same text.
TEST(Readme, ShowsTheProgramThatTheTestsRun) {
  EXPECT_NE(source("README.md").find("```cpp\n" + source("tests/examples/readme_program.cpp") + "```\n"),
            std::string::npos);
}

TEST(Readme, LinksToFilesThatExist) {
  for (const std::string folder :
       {"", "engine/", "kernels/", "models/", "data/", "tools/", "bench/", "tests/"}) {
    const std::string text = source(folder + "README.md");
    for (size_t at = text.find("]("); at != std::string::npos; at = text.find("](", at + 1)) {
      const std::string target = text.substr(at + 2, text.find(')', at) - at - 2);
      if (target.starts_with("http")) continue;
      EXPECT_TRUE(std::filesystem::exists(PLUME_SOURCE_DIR "/" + folder + target))
          << folder << "README.md links to " << target;
    }
  }
}

}  // namespace
}  // namespace plume
