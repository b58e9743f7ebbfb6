// cudnn_plan_test sm_90 [--table]: what cuDNN plans for a device that need not be there. --table prints it
// for engine/cuda/README.md.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "engine/core/device.h"
#include "tests/cudnn_plan/deviceless.h"
#include "tests/cudnn_plan/expected.h"
#include "tests/support/test_support.h"

namespace plume::test {
namespace {

void check_survey(const std::vector<Class>& classes) {
  EXPECT_GT(classes.size(), 10u);
  for (const Class& one : classes)
    for (size_t i = 0; i < kArithmetics.size(); ++i) {
      const Expected* expected = expected_of(one, Arithmetic(i));
      ASSERT_TRUE(expected) << one.name << " is a class that nothing is expected of";
      const std::string wrong = difference(one.answers[i], *expected);
      EXPECT_EQ(wrong, "") << one.name << " in " << kArithmetics[i];
    }
}

TEST(CudnnPlan, Networks) { check_survey(survey_networks()); }
TEST(CudnnPlan, ShapesOfTheOperationsTests) { check_survey(survey_operations()); }

std::string words(const Answer& a) {
  std::string text;
  const auto part = [&](int n, const char* what) {
    if (n) text += message("{}{} {}", text.empty() ? "" : ", ", n, what);
  };
  part(a.whole - a.compiled, "ready");
  part(a.compiled, "compiled");
  part(a.sums, "sums");
  part(a.refused, "none");
  for (const std::string& p : a.patterns) text += message(" `{}`", p);
  const long mib = std::lround(a.workspace);
  return text + (mib ? message(", {} MiB", mib) : "");
}

void print(const std::vector<Class>& classes) {
  std::printf("| class | f32 | TF32 | f16 | bf16 |\n|---|---|---|---|---|\n");
  for (const Class& c : classes) {
    std::printf("| %s |", c.name.c_str());
    for (const Answer& a : c.answers) std::printf(" %s |", words(a).c_str());
    std::printf("\n");
  }
}

int run_tests(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const bool table = argc == 3 && std::string_view(argv[2]) == "--table";
  PLUME_CHECK(argc == 2 || table, "cudnn_plan_test: expected a device, sm_80 or sm_90, and perhaps --table");
  setenv("PLUME_CUDA_PLUGIN", PLUME_DEVICELESS, 1);
  PLUME_CHECK(cuda_available(), "cudnn_plan_test: {}", cuda_unavailable_reason());
  describe_device(read_file(message(PLUME_SOURCE_DIR "/tests/cudnn_plan/{}.json", argv[1])));
  if (!table) return RUN_ALL_TESTS();
  print(survey_networks());
  return 0;
}

}  // namespace
}  // namespace plume::test

int main(int argc, char** argv) {
  try {
    return plume::test::run_tests(argc, argv);
  } catch (const plume::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return error.exit_code();
  }
}
