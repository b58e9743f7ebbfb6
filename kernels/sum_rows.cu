// sum_rows: column sums of [rows, channels]. A thread adds up 16 bytes of channels down its rows, a block its
// threads' sums (row_tiling.h), a second launch the blocks' (partial_sums.cu). The order of the additions
// depends on the shape alone, so results repeat bit for bit.
//
// Bytes: reads x once; the partial sums are at most 1024 rows. One addition per value: the bound is memory
// bandwidth.
#include "engine/ops/sum_rows.h"

#include "kernels/common/row_tiling.h"

namespace plume::PLUME_KERNELS {
namespace {

template <class T, int kWidth>
__global__ void sum_rows_two_pass(const T* __restrict__ x, int64_t rows, int channels, int64_t rows_per_slice,
                                  float* __restrict__ partial) {
  const RowWalk<kWidth> walk(rows, rows_per_slice);
  float sum[kWidth] = {};
  if (walk.channel < channels) {
    for (int64_t row = walk.first; row < walk.last; row += walk.step) {
      const auto v = Pack<T, kWidth>::load(x + row * channels + walk.channel);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) sum[i] += float(v[i]);
    }
  }
  sum_over_rows_of_block(sum);
  if (threadIdx.y == 0 && walk.channel < channels) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) partial[int64_t(blockIdx.y) * channels + walk.channel + i] = sum[i];
  }
}

void run(Context& context, const Tensor& x, Tensor& out) {
  if (out.size() == 0) return;
  const int64_t channels = x.dim(-1), rows = x.size() / channels;
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    with_pack_width<T>(channels, [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      const RowTiling tiling(rows, channels / kWidth);
      const bool one_pass = tiling.slices() == 1;
      Tensor partial =
          one_pass ? out : Tensor::empty({tiling.slices(), channels}, DType::f32, out.device(), "workspace");
      simt::launch<sum_rows_two_pass<T, kWidth>>(tiling.launch(context), x.data<T>(), rows, int(channels),
                                                 tiling.rows_per_slice, partial.data<float>());
      if (!one_pass) finish_sum(context, partial, out);
    });
  });
}

const bool sum_rows_registered = sum_rows_forward.add(kThisDevice, {{"two_pass", always, run}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
