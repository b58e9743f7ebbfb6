// conv2d forward, "tensor_core": implicit matrix product of 16-bit types with everything that follows a
// convolution in evaluation fused into its end. A block makes 128 output pixels x 64 filters (block_gemm.h).
// The same kernel with gates is gated_pointwise: the squeeze-excitation's scaling happens to the 16 bytes on
// their way from global to shared memory, and d * gate is never stored.
//
// rows: output pixels,  columns: filters k,  depth: filter taps (r, s), channels of a tap in pieces of 32
//
// A tap with fewer channels than a piece is filled up with zeros, so that a stem's 3 channels waste nine
// tenths; "direct" and the vendors are better there. Bytes for a 1x1 convolution: x and y once (and the
// residual), w from L2. FLOPs: 2 N P Q K R S C. With C = 96 inputs and 24 outputs a 1x1 convolution does 2 *
// 24 * 96 FLOPs for 2 * (96 + 24) bytes, 19 per byte: memory is the limit, at 270 FLOPs per byte on an H100.
#include "engine/ops/mbconv.h"
#include "kernels/common/block_gemm.h"
#include "kernels/conv2d_sizes.h"

namespace plume::PLUME_KERNELS {
namespace {

template <class T, bool kVector, bool kGated>
__global__ void __launch_bounds__(kGemmThreads, 1)
    conv2d_forward_blocks(const T* __restrict__ x, const float* __restrict__ gate, const T* __restrict__ w,
                          const ConvSizes s, EpilogueView<T> finish, T* __restrict__ y) {
  SMEM(stages, GemmStage<T>[2]);
  const int64_t first_pixel = int64_t(blockIdx.x) * kGemmRows;
  const int first_filter = int(blockIdx.y) * kGemmColumns;
  PatchPixels<T, kVector, kGated> pixels(
      x, gate, s.height, s.width, s.channels, s.filter_width, s.dilation, [&](int row) -> PatchPlace {
        const int64_t pixel = first_pixel + row;
        if (pixel >= s.out_pixels()) return {-1, 0, 0};
        const Index4 at(pixel, s.out_height, s.out_width, 1);
        return {at.a, at.h * s.stride - s.padding, at.w * s.stride - s.padding};
      });
  FilterRows<T, kVector> filters(w, s.filter_height, s.filter_width, s.channels, first_filter, s.filters);
  GemmSums<T> sums;
  block_gemm(pixels, filters, s.filter_height * s.filter_width * steps_per_tap<T>(s.channels), stages, sums);

  sums.for_each_pair([&](int row, int column, float first, float second) {
    const int64_t pixel = first_pixel + row;
    const int k = first_filter + column, valid = s.filters - k;
    if (pixel < s.out_pixels())
      finish_pair(finish, first, second, k, valid, pixel * s.filters + k, s.filters % 2 == 0, y);
  });
}

template <class T, bool kGated>
void launch_blocks(const Context& context, const Tensor& x, const float* gate, const Tensor& w,
                   const Conv2dParams& params, const Epilogue& epilogue, Tensor& y) {
  const ConvSizes s(x, w, y, params);
  const simt::Launch launch{
      dim3(unsigned(ceil_div(s.out_pixels(), kGemmRows)), unsigned(ceil_div(s.filters, kGemmColumns))),
      dim3(kGemmThreads), 0, stream_of(context)};
  const EpilogueView<T> finish(epilogue);
  if (s.channels % kVectorWidth<T> == 0)
    simt::launch<conv2d_forward_blocks<T, true, kGated>>(launch, x.data<T>(), gate, w.data<T>(), s, finish,
                                                         y.data<T>());
  else
    simt::launch<conv2d_forward_blocks<T, false, kGated>>(launch, x.data<T>(), gate, w.data<T>(), s, finish,
                                                          y.data<T>());
}

void run_tensor_core_forward(Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& params,
                             const Epilogue& epilogue, Tensor& y) {
  if (x.dtype() == DType::f16)
    launch_blocks<f16, false>(context, x, nullptr, w, params, epilogue, y);
  else
    launch_blocks<bf16, false>(context, x, nullptr, w, params, epilogue, y);
}

void run_gated(Context& context, const Tensor& x, const Tensor& gate, const Tensor& w, PackedFilter*,
               const Epilogue& epilogue, Tensor& y) {
  if (y.size() == 0) return;
  dispatch_floating(x.dtype(), [&](auto zero) {
    launch_blocks<decltype(zero), true>(context, x, gate.data<float>(), w, {}, epilogue, y);
  });
}

bool fits_tensor_core_forward(const Context&, const Tensor& x, const Tensor& w, const Conv2dParams&,
                              const Epilogue&, Tensor& y) {
  return x.dtype() != DType::f32 && x.size() > 0 && w.size() > 0 && y.size() > 0;
}

const bool conv2d_tensor_core_registered =
    conv2d_forward.add(kThisDevice, {{"tensor_core", fits_tensor_core_forward, run_tensor_core_forward}},
                       KernelSlotBase::kOwn + 1) &&
    gated_pointwise_forward.add(kThisDevice, {{"block_gemm", always, run_gated}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
