// How many threads this process should use: what the system will let it have at once.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace plume {

// CPUs (numbers) that share a core with others of the list are left out: the first of each core stays. Reads
// <root>/sys/devices/system/cpu; where that tells nothing every CPU counts as a core.
std::vector<int> one_per_core(const std::vector<int>& cpus, const std::string& root = "");

// The CPU time per time that the control groups of this process allow, e.g. 1.5; infinite without a limit.
// The least of all groups from this process's up to the outermost that can be seen, of version 1 and 2.
// Reads <root>/proc/self/{cgroup,mountinfo} and what they name below <root>.
double cpu_quota(const std::string& root = "");

// The ranks that a launcher (see engine/distributed/launch.h) started on this machine, this one included:
// 1 where none says so.
int local_ranks(const char* (*variable)(const char* name));

// Cores that this process may run on (sched_getaffinity), at most as many as its quota gives in full, and
// only this rank's share of the machine's where several ranks run on it. At least 1.
int usable_cores();

// OMP_NUM_THREADS where it is set to a number (the first of a list), else usable_cores().
int default_threads();

// How long the CPUs that this thread may run on have had nothing to do since the system started, all
// together, in nanoseconds; the system counts in steps of some ten milliseconds. -1 where it does not tell.
// Reads <root>/proc/stat, some 20 us on a small machine; allocates nothing.
int64_t idle_nanoseconds(const char* root = "");

}  // namespace plume
