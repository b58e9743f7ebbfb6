#include "engine/distributed/launch.h"

#include <charconv>
#include <cstdlib>
#include <string_view>

#include "engine/core/error.h"

namespace plume {
namespace {

struct Launcher {
  const char *name, *world, *rank, *local_rank;
};

// srun last: mpirun may itself run inside a step of SLURM. A batch script's own shell is no rank: the number
// of tasks of a step, not of the job, tells what srun started.
constexpr Launcher kLaunchers[] = {
    {"mpirun", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"},
    {"mpiexec", "PMI_SIZE", "PMI_RANK", "MPI_LOCALRANKID"},
    {"srun", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID"},
};

int parse(const char* name, std::string_view text) {
  int value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  PLUME_CHECK(error == std::errc() && end == text.data() + text.size() && value >= 0,
              "{}: '{}' is not a whole number from 0", name, text);
  return value;
}

}  // namespace

Launch read_launch(const char* (*variable)(const char* name)) {
  for (const Launcher& l : kLaunchers) {
    const char *world = variable(l.world), *rank = variable(l.rank), *local = variable(l.local_rank);
    if (!world || !rank) continue;
    Launch found{.rank = parse(l.rank, rank), .world = parse(l.world, world), .by = l.name};
    PLUME_CHECK(found.rank < found.world, "{}={} with {}={}: not a rank of that world", l.rank, rank, l.world,
                world);
    if (found.world == 1) continue;
    found.local_rank = local ? parse(l.local_rank, local) : found.rank;
    return found;
  }
  return {};
}

const Launch& launch() {
  static const Launch found = read_launch([](const char* name) -> const char* { return std::getenv(name); });
  return found;
}

}  // namespace plume
