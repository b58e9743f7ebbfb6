// relu_bias: one walk down [rows, channels], tiled as in row_tiling.h: a thread masks 16 bytes of channels of
// each of its rows, writes them where they belong, and keeps their sums in registers. The blocks' sums are
// added by partial_sums.cu, with those of other layers.
//
// Bytes: reads y and dy, writes dz: 3 values per element, 4 with a second dy. An addition and a comparison
// per value: the bound is memory bandwidth.
#include "engine/ops/relu_bias.h"

#include "engine/math/activation.h"
#include "kernels/common/row_tiling.h"

namespace plume::PLUME_KERNELS {
namespace {

// Channels from `own` on go to dz2. more may be null.
template <class T, int kWidth>
__global__ void __launch_bounds__(kTilingThreads, 1)
    relu_bias_sums(const T* __restrict__ y, const T* __restrict__ dy, const T* __restrict__ more,
                   int64_t rows, int channels, int own, int64_t rows_per_slice, T* __restrict__ dz,
                   T* __restrict__ dz2, float* __restrict__ partial) {
  using Vector = Pack<T, kWidth>;
  const RowWalk<kWidth> walk(rows, rows_per_slice);
  float sum[kWidth] = {};
  if (walk.channel < channels) {
    const bool second = walk.channel >= own;
    T* const to = second ? dz2 + (walk.channel - own) : dz + walk.channel;
    const int width = second ? channels - own : own;
    for (int64_t row = walk.first; row < walk.last; row += walk.step) {
      const int64_t at = row * channels + walk.channel;
      const Vector output = Vector::load(y + at);
      Vector gradient = Vector::load(dy + at), other = Vector::filled(T(0.0f));
      if (more) other = Vector::load(more + at);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        const bool passes = slope_from_output(Activation::relu, float(output[i])) != 0.0f;
        const float v = passes ? float(gradient[i]) + float(other[i]) : 0.0f;
        sum[i] += v;
        gradient[i] = T(v);
      }
      gradient.store(to + row * width);
    }
  }
  sum_over_rows_of_block(sum);
  if (threadIdx.y == 0 && walk.channel < channels) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) partial[int64_t(blockIdx.y) * channels + walk.channel + i] = sum[i];
  }
}

void run_relu_bias(Context& context, const Tensor& y, const Tensor& dy, const Tensor& dy_more, Tensor& dz,
                   Tensor& dbias, Tensor& dz2, Tensor& dbias2) {
  const int64_t channels = y.dim(-1), own = dz.dim(-1);
  if (y.size() == 0) {
    dbias.fill_zero();
    if (dbias2.defined()) dbias2.fill_zero();
    return;
  }
  dispatch_floating(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    // Packs must not reach from one convolution into the other.
    with_pack_width<T>(own % kVectorWidth<T> == 0 ? channels : own, [&](auto width) {
      const int64_t rows = y.size() / channels;
      const RowTiling tiling(rows, channels / width);
      Tensor partial = Tensor::empty({tiling.slices(), channels}, DType::f32, y.device(), "workspace");
      simt::launch<relu_bias_sums<T, width>>(tiling.launch(context), y.data<T>(), dy.data<T>(),
                                             dy_more.defined() ? dy_more.data<T>() : nullptr, rows,
                                             int(channels), int(own), tiling.rows_per_slice, dz.data<T>(),
                                             dz2.defined() ? dz2.data<T>() : nullptr, partial.data<float>());
      finish_sum(context, partial, dbias);
      if (dbias2.defined()) finish_sum(context, partial, dbias2, own);
    });
  });
}

const bool relu_bias_registered = relu_bias_backward.add(kThisDevice, {{"walk", always, run_relu_bias}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
