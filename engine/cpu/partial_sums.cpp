#include "engine/ops/partial_sums.h"

#include "engine/cpu/parallel.h"

namespace plume::cpu {
namespace {

void run(Context&, std::vector<PartialSum>& sums) {
  for (PartialSum& sum : sums) {
    const float* partial = sum.partial.data<float>();
    float* out = sum.out.data<float>();
    const int64_t n = sum.out.size(), slices = n ? sum.partial.size() / n : 0;
    parallel_for(n, row_grain(slices), [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        double total = 0;
        for (int64_t slice = 0; slice < slices; ++slice) total += double(partial[slice * n + i]);
        out[i] = float(total);
      }
    });
  }
}

const bool registered = partial_sums.add(Device::cpu, {{"loop", always, run}});

}  // namespace
}  // namespace plume::cpu
