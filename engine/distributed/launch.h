// What the launcher of this process says about it: mpirun and mpiexec (Open MPI, MPICH, Intel MPI) and srun
// tell every process its place in environment variables.
#pragma once

namespace plume {

struct Launch {
  int rank = 0, world = 1;
  int local_rank = 0;   // among the ranks of this machine: the number of its GPU
  const char* by = "";  // "mpirun", "srun"; empty for a process that was started alone
};

// Read once. A world of one when no launcher started this process.
const Launch& launch();

// The same from any environment: `variable` returns null where a variable is not set. Throws usage when what
// is set is no rank of a world.
Launch read_launch(const char* (*variable)(const char* name));

}  // namespace plume
