// gated_pointwise: a 1x1 convolution of 16-bit or f32 values whose pixels are multiplied by gates [N, C] on
// their way from global to shared memory, so that the squeeze-excitation's d * gate is never stored. A block
// makes 128 output pixels x 64 filters (block_gemm.h).
//
// Bytes: d, y and the residual once, W and the gates from L2. FLOPs: 2 N H W C K.
#include "engine/ops/mbconv.h"
#include "kernels/common/block_gemm.h"
#include "kernels/conv2d_sizes.h"

namespace plume::PLUME_KERNELS {
namespace {

template <class T, bool kVector>
__global__ void __launch_bounds__(kGemmThreads, 1)
    gated_pointwise_blocks(const T* __restrict__ x, const float* __restrict__ gate, const T* __restrict__ w,
                           const ConvSizes s, EpilogueView<T> finish, T* __restrict__ y) {
  SMEM(stages, GemmStage<T>[2]);
  const int64_t first_pixel = int64_t(blockIdx.x) * kGemmRows;
  const int first_filter = int(blockIdx.y) * kGemmColumns;
  PatchPixels<T, kVector, true> pixels(x, gate, s.height, s.width, s.channels, 1, 1,
                                       [&](int row) -> PatchPlace {
                                         const int64_t pixel = first_pixel + row;
                                         if (pixel >= s.out_pixels()) return {-1, 0, 0};
                                         const Index4 at(pixel, s.out_height, s.out_width, 1);
                                         return {at.a, at.h, at.w};
                                       });
  FilterRows<T, kVector> filters(w, 1, 1, s.channels, first_filter, s.filters);
  GemmSums<T> sums;
  block_gemm(pixels, filters, steps_per_tap<T>(s.channels), stages, sums);

  sums.for_each_pair([&](int row, int column, float first, float second) {
    const int64_t pixel = first_pixel + row;
    const int k = first_filter + column, valid = s.filters - k;
    if (pixel < s.out_pixels())
      finish_pair(finish, first, second, k, valid, pixel * s.filters + k, s.filters % 2 == 0, y);
  });
}

void run_gated(Context& context, const Tensor& x, const Tensor& gate, const Tensor& w, PackedFilter*,
               const Epilogue& epilogue, Tensor& y) {
  if (y.size() == 0) return;
  const ConvSizes s(x, w, y, {});
  const simt::Launch launch{
      dim3(unsigned(ceil_div(s.out_pixels(), kGemmRows)), unsigned(ceil_div(s.filters, kGemmColumns))),
      dim3(kGemmThreads), 0, stream_of(context)};
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const EpilogueView<T> finish(epilogue);
    const float* gates = gate.data<float>();
    if (s.channels % kVectorWidth<T> == 0)
      simt::launch<gated_pointwise_blocks<T, true>>(launch, x.data<T>(), gates, w.data<T>(), s, finish,
                                                    y.data<T>());
    else
      simt::launch<gated_pointwise_blocks<T, false>>(launch, x.data<T>(), gates, w.data<T>(), s, finish,
                                                     y.data<T>());
  });
}

const bool gated_pointwise_registered =
    gated_pointwise_forward.add(kThisDevice, {{"block_gemm", always, run_gated}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
