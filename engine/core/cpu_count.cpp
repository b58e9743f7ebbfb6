#include "engine/core/cpu_count.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <numeric>
#include <set>
#include <sstream>
#include <string_view>

namespace plume {
namespace {

constexpr double kNoLimit = std::numeric_limits<double>::infinity();

std::vector<std::string> words(const std::string& line) {
  std::istringstream in(line);
  std::vector<std::string> found;
  for (std::string word; in >> word;) found.push_back(word);
  return found;
}

// Whether `name` is one of a list separated by commas.
bool listed(const std::string& list, std::string_view name) {
  std::istringstream in(list);
  for (std::string one; std::getline(in, one, ',');)
    if (one == name) return true;
  return false;
}

// quota / period: "max 100000", "150000 100000".
double ratio(const std::string& quota, const std::string& period) {
  const double q = std::atof(quota.c_str()), p = std::atof(period.c_str());
  return q > 0 && p > 0 ? q / p : kNoLimit;
}

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

double limit_of(const std::string& folder, bool second_version) {
  if (!second_version)
    return ratio(first_line(folder + "/cpu.cfs_quota_us"), first_line(folder + "/cpu.cfs_period_us"));
  const std::vector<std::string> both = words(first_line(folder + "/cpu.max"));
  return both.size() == 2 ? ratio(both[0], both[1]) : kNoLimit;
}

struct Mount {
  std::string root, point;  // the group that is mounted, and where
};

// The first mount of the hierarchy that limits CPU time in version 1, or of version 2. A line reads
// "31 23 0:28 ROOT POINT options optional... - type source options".
Mount find_mount(const std::string& mountinfo, bool second_version) {
  std::ifstream file(mountinfo);
  for (std::string line; std::getline(file, line);) {
    const std::vector<std::string> w = words(line);
    const auto dash = std::find(w.begin(), w.end(), "-");
    if (w.size() < 5 || w.end() - dash < 4) continue;
    if (second_version ? dash[1] == "cgroup2" : dash[1] == "cgroup" && listed(dash[3], "cpu"))
      return {w[3], w[4]};
  }
  return {};
}

double limit_of_groups(const std::string& root, std::string group, bool second_version) {
  const Mount mount = find_mount(root + "/proc/self/mountinfo", second_version);
  if (mount.point.empty()) return kNoLimit;
  // In a container the group's name is the host's, of which the mount shows the end only.
  const size_t end = mount.root.size();
  if (mount.root != "/" && group.starts_with(mount.root) && (group.size() == end || group[end] == '/'))
    group = group.substr(end);
  double least = kNoLimit;
  for (;;) {
    while (group.ends_with('/')) group.pop_back();
    least = std::min(least, limit_of(root + mount.point + group, second_version));
    if (group.empty()) return least;
    group.resize(std::min(group.size(), group.rfind('/')));
    if (group.rfind('/') == std::string::npos) group.clear();
  }
}

std::vector<int> all_cpus() {
  std::vector<int> cpus(size_t(std::max(1L, sysconf(_SC_NPROCESSORS_ONLN))));
  std::iota(cpus.begin(), cpus.end(), 0);
  return cpus;
}

std::vector<int> allowed_cpus() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return all_cpus();  // more CPUs than the set holds
  std::vector<int> cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  return cpus;
}

}  // namespace

std::vector<int> one_per_core(const std::vector<int>& cpus, const std::string& root) {
  std::set<std::string> seen;
  std::vector<int> kept;
  for (const int cpu : cpus) {
    const std::string siblings = first_line(root + "/sys/devices/system/cpu/cpu" + std::to_string(cpu) +
                                            "/topology/thread_siblings_list");
    if (siblings.empty() || seen.insert(siblings).second) kept.push_back(cpu);
  }
  return kept;
}

double cpu_quota(const std::string& root) {
  std::ifstream file(root + "/proc/self/cgroup");
  double least = kNoLimit;
  for (std::string line; std::getline(file, line);) {  // number:controllers:group
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool second_version = controllers.empty();
    if (second_version || listed(controllers, "cpu"))
      least = std::min(least, limit_of_groups(root, line.substr(second + 1), second_version));
  }
  return least;
}

int local_ranks(const char* (*variable)(const char* name)) {
  // Open MPI, Intel MPI, MPICH and MVAPICH, srun. SLURM's may be "4(x2),3": the first will do.
  for (const char* name : {"OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "MV2_COMM_WORLD_LOCAL_SIZE",
                           "SLURM_STEP_TASKS_PER_NODE"}) {
    const char* text = variable(name);
    if (const int ranks = text ? std::atoi(text) : 0; ranks > 0) return ranks;
  }
  return 1;
}

int usable_cores() {
  const int cores = int(one_per_core(allowed_cpus()).size());
  double most = std::max(1, cores);
  const int ranks = local_ranks([](const char* name) -> const char* { return std::getenv(name); });
  // Ranks that the launcher has bound have their own CPUs already.
  if (ranks > 1) most = std::min(most, double(one_per_core(all_cpus()).size()) / ranks);
  return std::max(1, int(std::min(most, std::floor(cpu_quota() / ranks))));
}

int64_t idle_nanoseconds(const char* root) {
  cpu_set_t allowed;
  const bool all = sched_getaffinity(0, sizeof allowed, &allowed) != 0;
  char path[512];
  std::snprintf(path, sizeof path, "%s/proc/stat", root);
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return -1;
  // "cpu" for all, then "cpuN user nice system idle iowait ...", in ticks; other lines follow.
  int64_t ticks = -1;
  char text[4096];
  size_t held = 0;
  for (bool more = true; more;) {
    const ssize_t count = read(file, text + held, sizeof text - 1 - held);
    if (count <= 0) break;
    held += size_t(count);
    text[held] = 0;
    const char* line = text;
    for (const char* end; more && (end = std::strchr(line, '\n')); line = end + 1) {
      int cpu = 0;
      long long idle = 0, waiting = 0;
      more = std::strncmp(line, "cpu", 3) == 0;
      if (!more || line[3] == ' ' ||
          std::sscanf(line, "cpu%d %*s %*s %*s %lld %lld", &cpu, &idle, &waiting) < 2)
        continue;
      if (all || (cpu < CPU_SETSIZE && CPU_ISSET(cpu, &allowed)))
        ticks = std::max<int64_t>(ticks, 0) + idle + waiting;
    }
    held = size_t(text + held - line);
    std::memmove(text, line, held);
  }
  close(file);
  return ticks < 0 ? -1 : ticks * (1'000'000'000 / sysconf(_SC_CLK_TCK));
}

int default_threads() {
  const char* text = std::getenv("OMP_NUM_THREADS");
  const int asked = text ? std::atoi(text) : 0;
  return asked > 0 ? asked : usable_cores();
}

}  // namespace plume
