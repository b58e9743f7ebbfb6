// The filter gradient of depthwise_conv2d for 3x3 and 5x5 filters, strides 1 and 2, "stream": marching down
// the image (depthwise_stream.h).
//
// dw[r, s, c] is a sum over all N P Q outputs. A thread keeps the sums of all R S taps of two channels in
// registers, and the rows of dy that the next row of x meets, four columns wide: x and dy are read and
// widened once, where two_pass reads both once per filter row. It takes strips of columns of all images, one
// after the other, from their first row to their last.
//
// blockIdx.x counts tiles of channels, blockIdx.y slices of the strips; in a block neighbouring threads have
// neighbouring channels, in as many groups as there is room for. The groups' sums are added through shared
// memory, a filter row at a time, those of the slices by a second launch: the order depends on the shape
// alone.
//
// Bytes: x and dy once, and the partial sums: slices * R S C floats out and in again, a tenth of x and dy in
// the widest layers. Instructions per output and multiply-adds among them (sm_90, bf16, stride 1): 3x3 25 and
// 9, 5x5 47 and 25; two_pass has 91 and 214.
#include "kernels/depthwise_stream_weight.h"

namespace plume::PLUME_KERNELS {
namespace {

template <class T, int kFilter, int kStride>
__global__ void __launch_bounds__(kWeightThreads, weight_blocks(kFilter))
    depthwise_backward_weight_stream(const T* __restrict__ x, const T* __restrict__ dy, DepthwiseSizes s,
                                     WeightTiling tiling, float* __restrict__ partial) {
  march_weight<T, kFilter, kStride>(x, AsStored{}, dy, s, tiling, partial);
}

void run_weight_stream(Context& context, const Tensor& x, const Tensor& dy, const Conv2dParams& params,
                       Tensor& dw) {
  if (dw.size() == 0) return;
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    dispatch_depthwise_filter(dw.dim(0), params.stride, [&](auto filter, auto stride) {
      const WeightTiling tiling(dy.dim(0), dy.dim(2), dw.dim(2));
      Tensor partial = Tensor::empty({tiling.slices, dw.size()}, DType::f32, dw.device(), "workspace");
      simt::launch<depthwise_backward_weight_stream<T, filter, stride>>(
          tiling.launch(context), x.data<T>(), dy.data<T>(), DepthwiseSizes(x, dw, dy, params), tiling,
          partial.data<float>());
      finish_gradient<T>(context, partial, int(tiling.slices), dw);
    });
  });
}

bool fits_weight_stream(const Context&, const Tensor&, const Tensor&, const Conv2dParams& p, Tensor& dw) {
  return fits_stream(dw.shape(), p);
}

const bool depthwise_stream_weight_registered = depthwise_conv2d_backward_weight.add(
    kThisDevice, {{"stream", fits_weight_stream, run_weight_stream}}, KernelSlotBase::kOwn + 1);

}  // namespace
}  // namespace plume::PLUME_KERNELS
