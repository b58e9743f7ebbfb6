// ops_test [--device=cpu|simt|cuda] [--own]: all operations on one device, or on all there are; --own:
// without the variants of vendors' libraries. A whole run fails when a registered variant of its devices was
// never checked.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "engine/core/variants.h"
#include "tests/support/check_op.h"
#include "tests/support/coverage.h"

namespace {

constexpr int kSkipped = 77;  // CTest's SKIP_RETURN_CODE for this suite

// Part of the tests cannot cover all variants.
bool whole_run() {
  const char* shards = std::getenv("GTEST_TOTAL_SHARDS");
  return GTEST_FLAG_GET(filter) == "*" && (!shards || std::string_view(shards) == "1") &&
         !GTEST_FLAG_GET(list_tests);
}

class Coverage : public testing::Environment {
  void TearDown() override {
    if (!whole_run()) return;
    for (const std::string& missing : plume::test::variants_never_run(plume::test::devices_under_test()))
      ADD_FAILURE() << missing;
  }
};

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  try {
    for (int i = 1; i < argc; ++i) {
      const std::string_view flag = argv[i], device_flag = "--device=";
      if (flag == "--own") {
        plume::test::leave_out_vendors();
        continue;
      }
      PLUME_CHECK(flag.starts_with(device_flag), "ops_test: unknown flag '{}'; --device=cpu|simt|cuda, --own",
                  flag);
      const plume::Device device = plume::parse_device(flag.substr(device_flag.size()));
      if (device == plume::Device::cuda && !plume::cuda_available()) {
        std::printf("skipped: %s\n", plume::cuda_unavailable_reason().c_str());
        return kSkipped;
      }
      plume::test::set_devices_under_test({device});
    }
    plume::choose_variants_of_environment();
  } catch (const plume::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return error.exit_code();
  }
  testing::AddGlobalTestEnvironment(new Coverage);
  return RUN_ALL_TESTS();
}
