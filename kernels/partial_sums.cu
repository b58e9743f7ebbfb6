// partial_sums: the second pass of many reductions in one launch per table (common/tensor_table.h). 32 x 8
// threads of a block add 32 neighbouring sums of one tensor, the slices shared out among eight
// (row_tiling.h). Where these are few a thread has four neighbouring sums, and all slices of them. The order
// depends on the shape alone, and is the same as if each had a launch of its own.
//
// Bytes: slices + 1 values per sum, from L2 where the first passes have just left them: the bound is memory,
// and for what most layers leave the launch.
#include "engine/ops/partial_sums.h"

#include "kernels/common/row_tiling.h"
#include "kernels/common/tensor_table.h"

namespace plume::PLUME_KERNELS {
namespace {

constexpr int kColumns = 32, kSumWidth = 4;  // of a block; of a thread
constexpr int64_t kFewSlices = 8;

struct SumEntry {
  const float* partial;
  float* out;
  unsigned size, first_block;
  int slices;
  unsigned columns;

  bool aligned;  // to 16 bytes

  PLUME_HD bool flat() const { return slices <= kFewSlices && columns % kSumWidth == 0 && aligned; }
  PLUME_HD int64_t values_of_block() const { return flat() ? kTableThreads * kSumWidth : kColumns; }
};
struct Nothing {};
using SumTable = TensorTable<Nothing, SumEntry>;

// Of the sums from i on.
__device__ __forceinline__ void sum_few_slices(const SumEntry& entry, int64_t i) {
  const float* from = entry.partial + i;
  if (i + kSumWidth > entry.size) {
    for (; i < entry.size; ++i, ++from) {
      float sum = 0.0f;
      for (int slice = 0; slice < entry.slices; ++slice) sum += from[slice * int64_t(entry.columns)];
      entry.out[i] = sum;
    }
    return;
  }
  auto sums = Pack<float, kSumWidth>::filled(0.0f);
#pragma unroll 4
  for (int slice = 0; slice < entry.slices; ++slice) {
    const auto values = Pack<float, kSumWidth>::load(from);
#pragma unroll
    for (int k = 0; k < kSumWidth; ++k) sums[k] += values[k];
    from += entry.columns;
  }
  sums.store(entry.out + i);
}

__global__ void __launch_bounds__(kTableThreads) sum_slices_table(const SumTable table) {
  static_assert(sizeof(table) <= 4096, "kernel arguments");
  const SumEntry& entry = table.entry_of_block();
  const int64_t first = int64_t(blockIdx.x - entry.first_block) * entry.values_of_block();
  if (entry.flat())
    sum_few_slices(entry, first + int(threadIdx.y * kColumns + threadIdx.x) * kSumWidth);
  else
    sum_slices_of_block(entry.partial, entry.slices, int64_t(entry.columns), int64_t(entry.size),
                        first + threadIdx.x, entry.out);
}

void run_partial_sums(Context& context, std::vector<PartialSum>& sums) {
  for_each_table<SumTable>(
      context, {}, sums.size(),
      [&](size_t i) -> SumEntry {
        PartialSum& sum = sums[i];
        const int64_t slices = sum.partial.dim(0);
        const float* from = std::as_const(sum).partial.data<float>() + sum.first;
        float* to = sum.out.data<float>();
        return {from,
                to,
                table_size(sum.out),
                0,
                int(slices),
                slices ? unsigned(sum.partial.size() / slices) : 0,
                is_aligned<kSumWidth>(from) && is_aligned<kSumWidth>(to)};
      },
      [](const SumTable& table, simt::Launch launch) {
        launch.block = dim3(kColumns, kTableThreads / kColumns);
        simt::launch<sum_slices_table>(launch, table);
      });
}

const bool partial_sums_registered = partial_sums.add(kThisDevice, {{"tables", always, run_partial_sums}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
