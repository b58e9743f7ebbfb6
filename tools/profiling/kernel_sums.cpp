#include "tools/profiling/kernel_sums.h"

#include <algorithm>

#include "tools/machine_code/kernel_report.h"

namespace plume::tools {

std::vector<KernelSum> sum_by_kernel(const std::vector<CountedLaunch>& launches) {
  std::vector<KernelSum> sums;
  for (const CountedLaunch& launch : launches) {
    const std::string kernel = short_kernel_name(launch.kernel);
    const auto grid = std::to_array(launch.grid), block = std::to_array(launch.block);
    auto sum = std::find_if(sums.begin(), sums.end(), [&](const KernelSum& s) {
      return s.kernel == kernel && s.grid == grid && s.block == block;
    });
    if (sum == sums.end()) sum = sums.insert(sum, {.kernel = kernel, .grid = grid, .block = block});
    ++sum->launches;
    sum->counts += launch.scaled_counts();
  }
  return sums;
}

Json to_json(const std::vector<KernelSum>& kernels) {
  Json all = Json::array();
  for (const KernelSum& k : kernels)
    all.push_back({{"kernel", k.kernel},
                   {"grid", k.grid},
                   {"block", k.block},
                   {"launches", k.launches},
                   {"loads", k.counts.loads},
                   {"stores", k.counts.stores},
                   {"sectors", k.counts.sectors},
                   {"ideal_sectors", k.counts.ideal_sectors},
                   {"wavefronts", k.counts.wavefronts},
                   {"ideal_wavefronts", k.counts.ideal_wavefronts},
                   {"instructions", k.counts.instructions}});
  return all;
}

}  // namespace plume::tools
