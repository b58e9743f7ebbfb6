// batch_norm_conv: depthwise convolutions of a norm that is made of x as they march down it, "stream" and
// "wide_stream" (depthwise_stream_forward.h, depthwise_stream_weight.h), in 16 bits. batch_norm_pointwise.cu
// has the 1x1 convolutions.
//
// Bytes, forward: x for the statistics, x and y; as two operations 2 x for the norm (x comes from the L2 once
// more where it fits) and what it stores, read again. For the filter's gradient x instead of what was stored.
// Per input pixel the norm is made once by every strip of columns that reads it, 1.3 to 1.5 times at 3x3; ten
// instructions for two channels, with silu 20: two to scale and shift, one to round, three for the padding,
// and the words are widened once more.
#include "kernels/batch_norm_passes.h"
#include "kernels/depthwise_stream_forward.h"
#include "kernels/depthwise_stream_weight.h"

namespace plume::PLUME_KERNELS {

void norm_statistics(Context& context, const Tensor& x, const BatchNormParams& params, Tensor& mean,
                     Tensor& inv_std, Tensor& running_mean, Tensor& running_var) {
  launch_statistics(
      context, x,
      FinishStatistics{params.eps, params.momentum, Statistics(mean, inv_std, running_mean, running_var)});
}

namespace {

template <class T, int kFilter, int kStride, int kWidth>
__global__ void __launch_bounds__(kStreamThreads, stream_blocks<T>(kFilter, kStride, kWidth))
    norm_depthwise_stream(const T* __restrict__ x, StreamedNorm norm, const T* __restrict__ w,
                          DepthwiseSizes s, StreamStrips strips, T* __restrict__ y) {
  march_forward<T, kFilter, kStride, kWidth, false>(x, norm, w, s, strips, EpilogueView<T>{}, y, false, {});
}

template <class T, int kFilter, int kStride>
__global__ void __launch_bounds__(kWeightThreads, weight_blocks(kFilter))
    norm_depthwise_weight_stream(const T* __restrict__ x, StreamedNorm norm, const T* __restrict__ dy,
                                 DepthwiseSizes s, WeightTiling tiling, float* __restrict__ partial) {
  march_weight<T, kFilter, kStride>(x, norm, dy, s, tiling, partial);
}

template <int kWidth>
void run_stream_of_norm(Context& context, const Tensor& x, const Tensor& gamma, const Tensor& beta,
                        const BatchNormParams& params, const Tensor& w, const Conv2dParams& conv, Tensor& y,
                        Tensor& mean, Tensor& inv_std, Tensor& running_mean, Tensor& running_var) {
  norm_statistics(context, x, params, mean, inv_std, running_mean, running_var);
  const StreamedNorm norm{NormView({gamma, beta, mean, inv_std, params.activation})};
  const StreamStrips strips = forward_strips<kWidth>(y.shape(), w.shape(), conv);
  dispatch_16_bits(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    dispatch_depthwise_filter(w.dim(0), conv.stride, [&](auto filter, auto stride) {
      if constexpr (kWidth == kStrip || stride() == 1)
        simt::launch<norm_depthwise_stream<T, filter(), stride(), kWidth>>(
            strips.launch(context), x.data<T>(), norm, w.data<T>(), DepthwiseSizes(x, w, y, conv), strips,
            y.data<T>());
    });
  });
}

void run_weight_stream_of_norm(Context& context, const Tensor& x, const KnownNorm& norm, const Tensor& dy,
                               const Conv2dParams& conv, Tensor& dw) {
  dispatch_16_bits(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    dispatch_depthwise_filter(dw.dim(0), conv.stride, [&](auto filter, auto stride) {
      const WeightTiling tiling(dy.dim(0), dy.dim(2), dw.dim(2));
      Tensor partial = Tensor::empty({tiling.slices, dw.size()}, DType::f32, dw.device(), "workspace");
      simt::launch<norm_depthwise_weight_stream<T, filter(), stride()>>(
          tiling.launch(context), x.data<T>(), StreamedNorm{NormView(norm)}, dy.data<T>(),
          DepthwiseSizes(x, dw, dy, conv), tiling, partial.data<float>());
      finish_gradient<T>(context, partial, int(tiling.slices), dw);
    });
  });
}

// y is not known yet where a call is only weighed.
bool fits_stream_of_norm(const Tensor& x, const Shape& w, const Conv2dParams& conv) {
  return is_depthwise(w) && fits_stream(w, conv) && x.dtype() != DType::f32 && x.size() > 0;
}
bool fits_norm_stream(const Context&, const Tensor& x, const Tensor&, const Tensor&, const BatchNormParams&,
                      const Tensor& w, const Conv2dParams& conv, Tensor&, Tensor&, Tensor&, Tensor&,
                      Tensor&) {
  return fits_stream_of_norm(x, w.shape(), conv);
}
bool fits_norm_wide_stream(const Context&, const Tensor& x, const Tensor&, const Tensor&,
                           const BatchNormParams&, const Tensor& w, const Conv2dParams& conv, Tensor&,
                           Tensor&, Tensor&, Tensor&, Tensor&) {
  return fits_stream_of_norm(x, w.shape(), conv) && conv.stride == 1;
}
bool fits_norm_weight_stream(const Context&, const Tensor& x, const KnownNorm&, const Tensor& dy,
                             const Conv2dParams& conv, Tensor& dw) {
  return fits_stream_of_norm(x, dw.shape(), conv) && dy.size() > 0;
}

bool norm_stream_pays(const Context&, const Tensor& x, const Tensor&, const Tensor&, const BatchNormParams&,
                      const Tensor&, const Conv2dParams&, Tensor&, Tensor&, Tensor&, Tensor&, Tensor&) {
  return norm_pays(x);
}
bool norm_wide_stream_pays(const Context&, const Tensor& x, const Tensor&, const Tensor&,
                           const BatchNormParams&, const Tensor& w, const Conv2dParams& conv, Tensor&,
                           Tensor&, Tensor&, Tensor&, Tensor&) {
  return norm_pays(x) && wide_strips_pay(depthwise_conv2d_shape(x.shape(), w.shape(), conv), w.shape(), conv);
}

const bool batch_norm_conv_registered =
    batch_norm_conv_forward.add(
        kThisDevice,
        {{"wide_stream", fits_norm_wide_stream, run_stream_of_norm<kWideStrip>, norm_wide_stream_pays},
         {"stream", fits_norm_stream, run_stream_of_norm<kStrip>, norm_stream_pays}}) &&
    batch_norm_conv_backward_weight.add(kThisDevice,
                                        {{"stream", fits_norm_weight_stream, run_weight_stream_of_norm}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
