// ema_update: all averages in one launch, or one per table (common/tensor_table.h).
//
// Bytes: reads average and value, writes average (3 values per element). 3 FLOPs each: the bound is memory
// bandwidth.
#include "engine/ops/ema_update.h"

#include "kernels/common/tensor_table.h"

namespace plume::PLUME_KERNELS {
namespace {

enum EmaArray { kAverage, kValue, kEmaArrays };
using EmaTable = TensorTable<const float*, TableEntry<kEmaArrays>>;

__global__ void __launch_bounds__(kTableThreads) ema_update_table(const EmaTable table) {
  static_assert(sizeof(table) <= 4096, "kernel arguments");
  const float weight = *table.params;
  for_each_value<1u << kAverage>(table.entry_of_block(), [&](float(&v)[kEmaArrays]) {
    v[kAverage] += weight * (v[kValue] - v[kAverage]);
  });
}

void run_ema_update(Context& context, std::vector<AveragedTensor>& tensors, const Tensor& weight) {
  for_each_table<EmaTable>(
      context, weight.data<float>(), tensors.size(),
      [&](size_t i) -> TableEntry<kEmaArrays> {
        return {{array_of(tensors[i].average), array_of(tensors[i].value)}, table_size(tensors[i].average)};
      },
      [](const EmaTable& table, const simt::Launch& launch) {
        simt::launch<ema_update_table>(launch, table);
      });
}

const bool ema_update_registered = ema_update.add(kThisDevice, {{"one_launch", always, run_ema_update}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
