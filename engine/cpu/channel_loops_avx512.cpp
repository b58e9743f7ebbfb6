// Loops over channels for AVX-512, which this file is compiled for: rows of depthwise convolutions, of first
// layers and of max pools, Winograd tiles.
#include "engine/cpu/conv/few_channels_row.h"
#include "engine/cpu/conv/winograd_tile.h"
#include "engine/cpu/depthwise_row.h"
#include "engine/cpu/lanes16.h"
#include "engine/cpu/max_pool_row.h"

#if defined(__x86_64__)
namespace plume::cpu {
DepthwiseRowKernel* depthwise_row_avx512(int filter, int stride, int columns) {
  return depthwise_row_kernel<Lanes16>(filter, stride, columns);
}

FewChannelsRowKernel* few_channels_row_avx512(int64_t step) { return few_channels_row_kernel<Lanes16>(step); }

void max_pool_row_avx512(const MaxPoolRow& row) { max_pool_row<Lanes16>(row); }

void winograd_input_avx512(const WinogradInput& tile) { winograd_input<Lanes16>(tile); }
void winograd_output_avx512(const WinogradOutput& tile) { winograd_output<Lanes16>(tile); }

}  // namespace plume::cpu
#endif
