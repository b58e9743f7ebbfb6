// What the README says is what is there.
#include <gtest/gtest.h>

#include <filesystem>
#include <sstream>

#include "engine/core/text.h"
#include "tests/support/test_support.h"

namespace plume::readme_test {
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

// The drawing of an image's way names one file per line, or a pattern; names after a comma are in its folder.
TEST(Readme, TheWayOfAnImageNamesFilesThatExist) {
  const std::string text = source("README.md");
  const size_t begin = text.find("```\n", text.find("## One image's way")) + 4;
  std::istringstream lines(text.substr(begin, text.find("```", begin) - begin));
  int files = 0;
  for (std::string line; std::getline(lines, line); ++files) {
    std::string path, folder;
    std::istringstream words(line);
    for (bool more = true; more && words >> path;) {
      more = path.ends_with(",");
      if (more) path.pop_back();
      if (path.find('/') == std::string::npos) path = folder + path;
      folder = path.substr(0, path.rfind('/') + 1);
      if (const size_t star = path.find('*'); star != std::string::npos) path = folder;
      EXPECT_TRUE(std::filesystem::exists(PLUME_SOURCE_DIR "/" + path)) << line;
    }
  }
  EXPECT_GT(files, 15);
  EXPECT_LE(files, 25);
}

}  // namespace
}  // namespace plume::readme_test
