// partial_sums: the second pass of many reductions in one launch per table (common/tensor_table.h). 32 x 8
// threads of a block add 32 neighbouring sums of one tensor, the slices shared out among eight
// (row_tiling.h): the order depends on the shape alone, and is the same as if each had a launch of its own.
//
// Bytes: slices + 1 values per sum, from L2 where the first passes have just left them: the bound is memory,
// and for what most layers leave the launch.
#include "engine/ops/partial_sums.h"

#include "kernels/common/row_tiling.h"
#include "kernels/common/tensor_table.h"

namespace plume::PLUME_KERNELS {
namespace {

constexpr int kColumns = 32;  // of a block

struct SumEntry {
  const float* partial;
  float* out;
  unsigned size, first_block;
  int slices;
  unsigned columns;
};
struct Nothing {};
using SumTable = TensorTable<Nothing, SumEntry>;

__global__ void __launch_bounds__(kTableThreads) sum_slices_table(const SumTable table) {
  static_assert(sizeof(table) <= 4096, "kernel arguments");
  const SumEntry& entry = table.entry_of_block();
  sum_slices_of_block(entry.partial, entry.slices, int64_t(entry.columns), int64_t(entry.size),
                      int64_t(blockIdx.x - entry.first_block) * kColumns + threadIdx.x, entry.out);
}

void run_partial_sums(Context& context, std::vector<PartialSum>& sums) {
  for_each_table<SumTable>(
      context, {}, sums.size(),
      [&](size_t i) -> SumEntry {
        PartialSum& sum = sums[i];
        const int64_t slices = sum.partial.dim(0);
        return {std::as_const(sum).partial.data<float>() + sum.first,
                sum.out.data<float>(),
                table_size(sum.out),
                0,
                int(slices),
                slices ? unsigned(sum.partial.size() / slices) : 0};
      },
      [](const SumTable& table, simt::Launch launch) {
        launch.block = dim3(kColumns, kTableThreads / kColumns);
        simt::launch<sum_slices_table>(launch, table);
      },
      kColumns);
}

const bool partial_sums_registered = partial_sums.add(kThisDevice, {{"tables", always, run_partial_sums}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
