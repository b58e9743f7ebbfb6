// global_avg_pool: forward gives every image and tile of channels a block; a thread adds up 16 bytes of
// channels over the pixels threadIdx.y, + blockDim.y, ..., the block adds its threads' sums in a fixed order.
// Backward: a thread holds dy / (H W) of its channels and writes it to its pixels of the image.
//
// Bytes: forward reads x once, backward writes dx once; one addition per value. The bound is memory
// bandwidth.
#include "engine/ops/global_avg_pool.h"

#include "kernels/common/row_tiling.h"

namespace plume::PLUME_KERNELS {
namespace {

template <class T, int kWidth, class Out>
__global__ void __launch_bounds__(kTilingThreads)
    global_avg_pool_forward_block(const T* __restrict__ x, int plane, int channels, Out* __restrict__ y) {
  const int channel = int(blockIdx.y * blockDim.x + threadIdx.x) * kWidth;
  const int64_t image = blockIdx.x;
  float sum[kWidth] = {};
  if (channel < channels) {
    using Vector = Pack<T, kWidth>;
    const T* const first = x + image * plane * channels + channel;
    typename Vector::Word words[4] = {};
    walk_rows<4>(
        PlaneWalk(plane),
        [&](int k, int pixel) { words[k] = Vector::load(first + int64_t(pixel) * channels).word(); },
        [&](int k, int) {
          float v[kWidth];
          Vector::widen(words[k], v);
#pragma unroll
          for (int i = 0; i < kWidth; ++i) sum[i] += v[i];
        });
  }
  sum_over_rows_of_block(sum);
  if (threadIdx.y != 0 || channel >= channels) return;
  constexpr int kPart = kWidth < kVectorWidth<Out> ? kWidth : kVectorWidth<Out>;
#pragma unroll
  for (int part = 0; part < kWidth; part += kPart) {
    Pack<Out, kPart> out;
#pragma unroll
    for (int i = 0; i < kPart; ++i) out[i] = Out(sum[part + i] / float(plane));
    out.store(y + image * channels + channel + part);
  }
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kTilingThreads)
    global_avg_pool_backward_block(const T* __restrict__ dy, int plane, int channels, T* __restrict__ dx) {
  const int channel = int(blockIdx.y * blockDim.x + threadIdx.x) * kWidth;
  const int64_t image = blockIdx.x;
  if (channel >= channels) return;
  auto g = Pack<T, kWidth>::load(dy + image * channels + channel);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) g[i] = T(float(g[i]) / float(plane));
  for (int pixel = int(threadIdx.y); pixel < plane; pixel += int(blockDim.y))
    g.store(dx + (image * plane + pixel) * channels + channel);
}

// blockIdx.x counts images, blockIdx.y tiles of channels.
template <class T, int kWidth>
simt::Launch per_image(const Context& context, const Tensor& image_batch) {
  const RowTiling tiling(image_batch.dim(1) * image_batch.dim(2), image_batch.dim(3) / kWidth);
  return {dim3(unsigned(image_batch.dim(0)), tiling.grid.x), tiling.block, 0, stream_of(context)};
}

void run_global_avg_pool_forward(Context& context, const Tensor& x, Tensor& y) {
  if (y.size() == 0) return;
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    with_pack_width<T>(x.dim(3), [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      dispatch_result<T>(y.dtype(), [&](auto result) {
        using Out = decltype(result);
        simt::launch<global_avg_pool_forward_block<T, kWidth, Out>>(per_image<T, kWidth>(context, x),
                                                                    x.data<T>(), int(x.dim(1) * x.dim(2)),
                                                                    int(x.dim(3)), y.data<Out>());
      });
    });
  });
}

void run_global_avg_pool_backward(Context& context, const Tensor& dy, Tensor& dx) {
  if (dx.size() == 0) return;
  dispatch_floating(dy.dtype(), [&](auto zero) {
    using T = decltype(zero);
    with_pack_width<T>(dx.dim(3), [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      simt::launch<global_avg_pool_backward_block<T, kWidth>>(per_image<T, kWidth>(context, dx), dy.data<T>(),
                                                              int(dx.dim(1) * dx.dim(2)), int(dx.dim(3)),
                                                              dx.data<T>());
    });
  });
}

const bool global_avg_pool_registered =
    global_avg_pool_forward.add(kThisDevice, {{"image_per_block", always, run_global_avg_pool_forward}}) &&
    global_avg_pool_backward.add(kThisDevice, {{"image_per_block", always, run_global_avg_pool_backward}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
