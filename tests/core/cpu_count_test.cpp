// How many threads a process should use: fixtures/cpu_trees, written by fixtures/make_cpu_trees.py.
#include "engine/core/cpu_count.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>

#include "tests/support/test_support.h"

namespace plume::cpu_count_test {
namespace {

double quota_of_tree(const std::string& tree) { return cpu_quota(test::fixture("cpu_trees/" + tree)); }

// An environment variable for the time of a test.
class CpuCountVariable {
 public:
  CpuCountVariable(const char* name, const char* value) : name_(name) {
    if (const char* before = std::getenv(name)) before_ = before;
    value ? setenv(name, value, 1) : unsetenv(name);
  }
  ~CpuCountVariable() { before_ ? setenv(name_, before_->c_str(), 1) : unsetenv(name_); }
  CpuCountVariable(const CpuCountVariable&) = delete;
  CpuCountVariable& operator=(const CpuCountVariable&) = delete;

 private:
  const char* name_;
  std::optional<std::string> before_;
};

TEST(CpuQuotaTest, ReadsTheSecondVersion) {
  EXPECT_EQ(quota_of_tree("v2_container"), 1.5);
  EXPECT_TRUE(std::isinf(quota_of_tree("v2_unlimited")));
}

TEST(CpuQuotaTest, ReadsTheFirstVersion) {
  EXPECT_EQ(quota_of_tree("v1_container"), 3.0);
  EXPECT_TRUE(std::isinf(quota_of_tree("v1_unlimited")));
}

TEST(CpuQuotaTest, TakesTheTightestOfNestedGroups) {
  EXPECT_EQ(quota_of_tree("v2_nested"), 2.0);
  EXPECT_EQ(quota_of_tree("v1_nested"), 5.0);
}

TEST(CpuQuotaTest, WhatCannotBeReadIsNoLimit) {
  EXPECT_TRUE(std::isinf(quota_of_tree("torn")));
  EXPECT_TRUE(std::isinf(quota_of_tree("no such tree")));
}

TEST(CoresTest, CountSiblingsOnce) {
  const std::string root = test::fixture("cpu_trees/two_threads_a_core");
  EXPECT_EQ(one_per_core({0, 1, 2, 3}, root), (std::vector<int>{0, 1}));
  EXPECT_EQ(one_per_core({2, 3}, root), (std::vector<int>{2, 3}));
  EXPECT_EQ(one_per_core({1, 3}, root), (std::vector<int>{1}));
  EXPECT_EQ(one_per_core({0, 1, 2, 3}, root + "/nothing here"), (std::vector<int>{0, 1, 2, 3}));
}

TEST(LocalRanksTest, AreWhatTheLauncherSays) {
  using Variable = const char* (*)(const char*);
  const auto ranks = [](Variable variable) { return local_ranks(variable); };
  EXPECT_EQ(ranks([](const char*) -> const char* { return nullptr; }), 1);
  EXPECT_EQ(ranks([](const char* name) -> const char* {
              return std::string(name) == "OMPI_COMM_WORLD_LOCAL_SIZE" ? "4" : nullptr;
            }),
            4);
  EXPECT_EQ(ranks([](const char* name) -> const char* {
              return std::string(name) == "SLURM_STEP_TASKS_PER_NODE" ? "8(x2),3" : nullptr;
            }),
            8);
  EXPECT_EQ(ranks([](const char*) -> const char* { return "many"; }), 1);
}

TEST(DefaultThreadsTest, ObeysOmpNumThreads) {
  {
    const CpuCountVariable variable("OMP_NUM_THREADS", "7,2");
    EXPECT_EQ(default_threads(), 7);
  }
  for (const char* none : {"", "0", "-3", "lots"}) {
    const CpuCountVariable variable("OMP_NUM_THREADS", none);
    EXPECT_EQ(default_threads(), usable_cores()) << none;
  }
}

// Of all CPUs that this thread may run on, however long the file; other lines follow.
TEST(IdleTest, CountsAllowedCpus) {
  const test::TemporaryFolder folder;
  std::filesystem::create_directory(folder.file("proc"));
  const int here = sched_getcpu();
  std::string stat = "cpu  1 2 3 400 5 6 7 8 0 0\n";
  for (int cpu = 0; cpu < 300; ++cpu)
    stat += "cpu" + std::to_string(cpu) + " 11 22 33 " + std::to_string(cpu == here ? 170 : 100000) +
            " 30 66 77 88 99 0\n";
  std::ofstream(folder.file("proc/stat")) << stat << "intr " << std::string(9000, '7') << "\nctxt 5\n";
  cpu_set_t before, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  CPU_ZERO(&one);
  CPU_SET(here, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  EXPECT_EQ(idle_nanoseconds(folder.file("").c_str()), 200 * (1'000'000'000 / sysconf(_SC_CLK_TCK)));
  sched_setaffinity(0, sizeof before, &before);
}

TEST(IdleTest, SaysWhereItIsNotKnown) {
  const test::TemporaryFolder folder;
  EXPECT_EQ(idle_nanoseconds(folder.file("").c_str()), -1);
  std::filesystem::create_directory(folder.file("proc"));
  std::ofstream(folder.file("proc/stat")) << "ctxt 5\n";
  EXPECT_EQ(idle_nanoseconds(folder.file("").c_str()), -1);
}

TEST(UsableCoresTest, FollowsAffinityAndRanks) {
  const CpuCountVariable ranks("OMPI_COMM_WORLD_LOCAL_SIZE", nullptr);
  const int all = usable_cores();
  EXPECT_GE(all, 1);
  {
    const CpuCountVariable two("OMPI_COMM_WORLD_LOCAL_SIZE", "2");
    EXPECT_LE(usable_cores(), std::max(1, all));
  }
  {
    const CpuCountVariable many("OMPI_COMM_WORLD_LOCAL_SIZE", "100000");
    EXPECT_EQ(usable_cores(), 1);
  }
  cpu_set_t before, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  CPU_ZERO(&one);
  CPU_SET(sched_getcpu(), &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  EXPECT_EQ(usable_cores(), 1);
  sched_setaffinity(0, sizeof before, &before);
}

}  // namespace
}  // namespace plume::cpu_count_test
