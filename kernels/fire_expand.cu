// fire_expand: both expansions of a fire module in one launch, each block writing its 128 pixels x 64 filters
// into their place of the concatenated result, ReLU applied (block_gemm.h).
//
// blockIdx.x counts output pixels, blockIdx.y first the column tiles of the 1x1 filters, then those of the
// 3x3. The tiles of the 3x3 filters take nine times as long and start last, which leaves the short ones to
// fill the gaps of the wave before.
//
// Bytes: x once for either expansion (the second time from L2), y once; unfused, y is written twice and read
// once more. FLOPs: 2 N H W C (A + 9 B). With C = 16 and A = B = 64: 20480 FLOPs for 2 * (16 + 128) bytes of
// 16 bits, 71 per byte: memory is the limit on an H100 (270), the matrix product close behind.
#include "engine/ops/fire.h"

#include "kernels/common/block_gemm.h"
#include "kernels/conv2d_sizes.h"

namespace plume::PLUME_KERNELS {
namespace {

template <class T>
struct Expansion {
  const T* w;
  const float* bias;
  int filters;
};

template <class T, bool kVector>
__global__ void __launch_bounds__(kGemmThreads, 1)
    fire_expand_blocks(const T* __restrict__ x, Expansion<T> one, Expansion<T> three, int images, int height,
                       int width, int channels, T* __restrict__ y) {
  SMEM(stages, GemmStage<T>[2]);
  const int tiles_of_one = (one.filters + kGemmColumns - 1) / kGemmColumns;
  const bool is_one = int(blockIdx.y) < tiles_of_one;
  const Expansion<T> mine = is_one ? one : three;
  const int size = is_one ? 1 : 3, padding = is_one ? 0 : 1, place = is_one ? 0 : one.filters;
  const int first_filter = (int(blockIdx.y) - (is_one ? 0 : tiles_of_one)) * kGemmColumns;
  const int64_t pixels = int64_t(images) * height * width, first_pixel = int64_t(blockIdx.x) * kGemmRows;
  PatchPixels<T, kVector> patches(x, nullptr, height, width, channels, size, 1, [&](int row) -> PatchPlace {
    const int64_t pixel = first_pixel + row;
    if (pixel >= pixels) return {-1, 0, 0};
    const Index4 at(pixel, height, width, 1);
    return {at.a, at.h - padding, at.w - padding};
  });
  FilterRows<T, kVector> filters(mine.w, size, size, channels, first_filter, mine.filters);
  GemmSums<T> sums;
  block_gemm(patches, filters, size * size * steps_per_tap<T>(channels), stages, sums);

  const int out_channels = one.filters + three.filters;
  const bool even = out_channels % 2 == 0 && place % 2 == 0;
  sums.for_each_pair([&](int row, int column, float first, float second) {
    const int64_t pixel = first_pixel + row;
    const int k = first_filter + column, valid = mine.filters - k;
    if (pixel >= pixels || valid <= 0) return;
    const auto bias = load_pair(mine.bias + k, valid, true);
    store_pair(y + pixel * out_channels + place + k, activate(Activation::relu, first + bias[0]),
               activate(Activation::relu, second + bias[1]), valid, even);
  });
}

void run(Context& context, const Tensor& x, const Tensor& w1, const Tensor& b1, const Tensor& w3,
         const Tensor& b3, PackedFilter*, PackedFilter*, Tensor& y) {
  const int channels = int(x.dim(3)), filters1 = int(w1.dim(0)), filters3 = int(w3.dim(0));
  const simt::Launch launch{
      dim3(unsigned(ceil_div(x.dim(0) * x.dim(1) * x.dim(2), kGemmRows)),
           unsigned(ceil_div(filters1, kGemmColumns) + ceil_div(filters3, kGemmColumns))),
      dim3(kGemmThreads), 0, stream_of(context)};
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Expansion<T> one{w1.data<T>(), b1.data<float>(), filters1},
        three{w3.data<T>(), b3.data<float>(), filters3};
    const int n = int(x.dim(0)), h = int(x.dim(1)), w = int(x.dim(2));
    if (channels % kVectorWidth<T> == 0)
      simt::launch<fire_expand_blocks<T, true>>(launch, x.data<T>(), one, three, n, h, w, channels,
                                                y.data<T>());
    else
      simt::launch<fire_expand_blocks<T, false>>(launch, x.data<T>(), one, three, n, h, w, channels,
                                                 y.data<T>());
  });
}

bool fits(const Context&, const Tensor& x, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
          PackedFilter*, PackedFilter*, Tensor& y) {
  return x.size() > 0 && y.size() > 0;
}

const bool fire_expand_registered = fire_expand_forward.add(kThisDevice, {{"in_place", fits, run}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
