#include "engine/distributed/launch.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "engine/core/error.h"

namespace plume::launch_test {
namespace {

std::map<std::string, std::string> environment;

Launch read(std::map<std::string, std::string> variables) {
  environment = std::move(variables);
  return read_launch([](const char* name) -> const char* {
    const auto found = environment.find(name);
    return found == environment.end() ? nullptr : found->second.c_str();
  });
}

TEST(Launch, AProcessStartedAloneIsAWorldOfOne) {
  const Launch l = read({});
  EXPECT_EQ(l.rank, 0);
  EXPECT_EQ(l.world, 1);
  EXPECT_STREQ(l.by, "");
}

TEST(Launch, KnowsTheLaunchers) {
  const Launch open_mpi = read({{"OMPI_COMM_WORLD_SIZE", "8"},
                                {"OMPI_COMM_WORLD_RANK", "5"},
                                {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                                {"SLURM_STEP_NUM_TASKS", "2"},
                                {"SLURM_PROCID", "0"}});
  EXPECT_STREQ(open_mpi.by, "mpirun");
  EXPECT_EQ(open_mpi.world, 8);
  EXPECT_EQ(open_mpi.rank, 5);
  EXPECT_EQ(open_mpi.local_rank, 1);
  EXPECT_EQ(read({{"PMI_SIZE", "4"}, {"PMI_RANK", "3"}}).local_rank, 3);
  const Launch slurm = read({{"SLURM_STEP_NUM_TASKS", "4"}, {"SLURM_PROCID", "2"}, {"SLURM_LOCALID", "0"}});
  EXPECT_STREQ(slurm.by, "srun");
  EXPECT_EQ(slurm.rank, 2);
  EXPECT_EQ(slurm.local_rank, 0);
}

// sbatch runs its script once, whatever the number of tasks that it asked for.
TEST(Launch, AJobsBatchScriptIsNoRank) {
  EXPECT_EQ(read({{"SLURM_NTASKS", "4"}, {"SLURM_PROCID", "0"}, {"SLURM_LOCALID", "0"}}).world, 1);
}

TEST(Launch, RefusesWhatIsNoRank) {
  EXPECT_THROW(read({{"PMI_SIZE", "two"}, {"PMI_RANK", "0"}}), Error);
  EXPECT_THROW(read({{"PMI_SIZE", "2"}, {"PMI_RANK", "-1"}}), Error);
  EXPECT_THROW(read({{"PMI_SIZE", "2"}, {"PMI_RANK", "2"}}), Error);
}

}  // namespace
}  // namespace plume::launch_test
