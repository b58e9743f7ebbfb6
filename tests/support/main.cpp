// <folder>_tests [x_test ...]: all tests of a folder, or those of the files that are named.
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <string>

#include "engine/core/context.h"
#include "engine/core/error.h"
#include "engine/core/variants.h"

namespace {

// Suite names of the tests in <file>.cpp as a filter; empty when there are none.
std::string filter_of(const std::string& file) {
  std::string filter;
  const testing::UnitTest& tests = *testing::UnitTest::GetInstance();
  for (int s = 0; s < tests.total_test_suite_count(); ++s) {
    const testing::TestSuite& suite = *tests.GetTestSuite(s);
    for (int t = 0; t < suite.total_test_count(); ++t) {
      const testing::TestInfo& test = *suite.GetTestInfo(t);
      if (std::filesystem::path(test.file()).stem() != file) continue;
      filter += std::string(suite.name()) + "." + test.name() + ":";
    }
  }
  return filter;
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  std::string filter;
  for (int i = 1; i < argc; ++i) {
    const std::string more = filter_of(argv[i]);
    if (more.empty()) {
      std::fprintf(stderr, "%s: no tests of '%s.cpp' here; the name of a file, like tensor_test\n", argv[0],
                   argv[i]);
      return 2;
    }
    filter += more;
  }
  if (!filter.empty()) GTEST_FLAG_SET(filter, filter);
  try {
    plume::cuda_available();  // opens the device, if there is one
    plume::choose_variants_of_environment();
  } catch (const plume::Error& error) {
    std::fprintf(stderr, "%s: %s\n", argv[0], error.what());
    return error.exit_code();
  }
  return RUN_ALL_TESTS();
}
