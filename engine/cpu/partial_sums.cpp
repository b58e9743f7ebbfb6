#include "engine/ops/partial_sums.h"

#include "engine/cpu/parallel.h"

namespace plume::cpu {
namespace {

void run(Context&, std::vector<PartialSum>& sums) {
  for (PartialSum& sum : sums) {
    const float* partial = std::as_const(sum).partial.data<float>() + sum.first;
    float* out = sum.out.data<float>();
    const int64_t slices = sum.partial.dim(0), columns = slices ? sum.partial.size() / slices : 0;
    parallel_for(sum.out.size(), row_grain(slices), [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        double total = 0;
        for (int64_t slice = 0; slice < slices; ++slice) total += double(partial[slice * columns + i]);
        out[i] = float(total);
      }
    });
  }
}

const bool registered = partial_sums.add(Device::cpu, {{"loop", always, run}});

}  // namespace
}  // namespace plume::cpu
