// Gradients of depthwise_conv2d.
//
// Input, "direct": a thread gathers 16 bytes of channels of one input pixel from the outputs it took part in:
// of R S taps those with (h + padding - r) divisible by the stride, a quarter of them at stride 2. Bytes: dy
// and dx once. (Common filters have faster ways: depthwise_stream.cu and depthwise_stream_weight.cu.)
//
// Filter, "two_pass": dw[r, s, c] is a sum over all N P Q outputs. Threads stand over the outputs' rows of
// channels (kernels/common/row_tiling.h) and keep the sums of one filter row (3 or 5 taps; one tap for other
// sizes) of their channels in registers while they walk down; blockIdx.z counts filter rows. A block adds its
// threads' sums, a second launch the blocks'; the order depends on the shape alone. Bytes: each filter row
// reads dy and x once, of which all but the first reading are the L2's where both fit; R (S + 1) loads for R
// S products.
#include "kernels/common/grid_stride.h"
#include "kernels/common/row_tiling.h"
#include "kernels/depthwise_sizes.h"

namespace plume::PLUME_KERNELS {
namespace {

template <class T, int kWidth>
__global__ void __launch_bounds__(kElementThreads, 1)
    depthwise_backward_input_direct(const T* __restrict__ dy, const T* __restrict__ w, DepthwiseSizes s,
                                    T* __restrict__ dx, int64_t items) {
  for (int64_t item = grid_thread(); item < items; item += grid_threads()) {
    const DepthwiseIndex at(item, s.height, s.width, s.channels / kWidth);
    const int channel = at.pack * kWidth;
    float sum[kWidth] = {};
    for (int r = 0; r < s.filter_height; ++r) {
      const int top = at.row + s.padding - r * s.dilation;  // p * stride
      if (top < 0 || top % s.stride != 0 || top / s.stride >= s.out_height) continue;
      for (int t = 0; t < s.filter_width; ++t) {
        const int left = at.column + s.padding - t * s.dilation;
        if (left < 0 || left % s.stride != 0 || left / s.stride >= s.out_width) continue;
        const int64_t pixel =
            (int64_t(at.image) * s.out_height + top / s.stride) * s.out_width + left / s.stride;
        const auto gradient = Pack<T, kWidth>::load(dy + pixel * s.channels + channel);
        const auto tap = Pack<T, kWidth>::load(w + (r * s.filter_width + t) * s.channels + channel);
#pragma unroll
        for (int i = 0; i < kWidth; ++i) sum[i] += float(gradient[i]) * float(tap[i]);
      }
    }
    Pack<T, kWidth> out;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) out[i] = T(sum[i]);
    out.store(dx + item * kWidth);
  }
}

// blockIdx.z: which group of kTaps neighbouring taps of the filter.
template <class T, int kWidth, int kTaps>
__global__ void __launch_bounds__(kTilingThreads, 1)
    depthwise_backward_weight_two_pass(const T* __restrict__ x, const T* __restrict__ dy, DepthwiseSizes s,
                                       int64_t rows, int64_t rows_per_slice, float* __restrict__ partial) {
  using Vector = Pack<T, kWidth>;
  const RowWalk<kWidth> walk(rows, rows_per_slice);
  const int groups = s.filter_width / kTaps;
  const int r = int(blockIdx.z) / groups, t0 = int(blockIdx.z) % groups * kTaps;
  float sum[kTaps * kWidth] = {};
  if (walk.channel < s.channels) {
    for (int64_t row = walk.first; row < walk.last; row += walk.step) {
      const DepthwiseIndex at(row, s.out_height, s.out_width, 1);
      const int h = at.row * s.stride - s.padding + r * s.dilation;
      if (unsigned(h) >= unsigned(s.height)) continue;
      const Vector gradient = Vector::load(dy + row * s.channels + walk.channel);
      const int left = at.column * s.stride - s.padding + t0 * s.dilation;
      const T* line = x + (int64_t(at.image) * s.height + h) * s.width * s.channels + walk.channel;
#pragma unroll
      for (int t = 0; t < kTaps; ++t) {
        const int v = left + t * s.dilation;
        if (unsigned(v) >= unsigned(s.width)) continue;
        const Vector values = Vector::load(line + int64_t(v) * s.channels);
#pragma unroll
        for (int i = 0; i < kWidth; ++i) sum[t * kWidth + i] += float(gradient[i]) * float(values[i]);
      }
    }
  }
  sum_over_rows_of_block(sum);
  if (threadIdx.y != 0 || walk.channel >= s.channels) return;
  const int64_t filter = int64_t(s.filter_height) * s.filter_width * s.channels;
#pragma unroll
  for (int t = 0; t < kTaps; ++t) {
    float* to =
        partial + int64_t(blockIdx.y) * filter + (r * s.filter_width + t0 + t) * s.channels + walk.channel;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) to[i] = sum[t * kWidth + i];
  }
}

void run_input(Context& context, const Tensor& dy, const Tensor& w, const Conv2dParams& params, Tensor& dx) {
  if (dx.size() == 0) return;
  dispatch_floating(dy.dtype(), [&](auto zero) {
    using T = decltype(zero);
    with_pack_width<T>(dx.dim(3), [&](auto width) {
      const int64_t items = dx.size() / width;
      simt::launch<depthwise_backward_input_direct<T, width>>(grid_stride(context, items), dy.data<T>(),
                                                              w.data<T>(), DepthwiseSizes(dx, w, dy, params),
                                                              dx.data<T>(), items);
    });
  });
}

template <class F>
void dispatch_taps(int64_t filter_width, F&& f) {
  if (filter_width == 3)
    f(std::integral_constant<int, 3>{});
  else if (filter_width == 5)
    f(std::integral_constant<int, 5>{});
  else
    f(std::integral_constant<int, 1>{});
}

void run_weight(Context& context, const Tensor& x, const Tensor& dy, const Conv2dParams& params, Tensor& dw) {
  if (dw.size() == 0) return;
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    with_pack_width<T>(x.dim(3), [&](auto width) {
      dispatch_taps(dw.dim(1), [&](auto taps) {
        const int64_t rows = dy.dim(0) * dy.dim(1) * dy.dim(2);
        const RowTiling tiling(rows, x.dim(3) / width);
        Tensor partial = Tensor::empty({tiling.slices(), dw.size()}, DType::f32, dw.device(), "workspace");
        simt::Launch launch = tiling.launch(context);
        launch.grid.z = unsigned(dw.dim(0) * dw.dim(1) / taps);
        simt::launch<depthwise_backward_weight_two_pass<T, width, taps>>(
            launch, x.data<T>(), dy.data<T>(), DepthwiseSizes(x, dw, dy, params), rows, tiling.rows_per_slice,
            partial.data<float>());
        finish_gradient<T>(context, partial, tiling.slices(), dw);
      });
    });
  });
}

const bool depthwise_conv2d_backward_registered =
    depthwise_conv2d_backward_input.add(kThisDevice, {{"direct", always, run_input}}) &&
    depthwise_conv2d_backward_weight.add(kThisDevice, {{"two_pass", always, run_weight}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
