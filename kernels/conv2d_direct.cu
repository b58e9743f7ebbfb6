// conv2d, "direct": one thread per element of the result, which it sums in a loop that reads like the
// equation. Fits every shape; the yardstick for implicit_gemm.
//
// FLOPs: 2 N P Q K R S C each. Every product fetches both factors; neighbouring threads share one of them
// (k innermost in y, c innermost in dx and dw), so the caches carry it and the bound is their bandwidth.
#include "kernels/conv2d_sizes.h"

namespace plume::PLUME_KERNELS {
namespace {

constexpr int kDirectThreads = 256;

template <class T>
__global__ void __launch_bounds__(kDirectThreads, 1)
    conv2d_forward_direct(const T* __restrict__ x, const T* __restrict__ w, ConvSizes s,
                          EpilogueView<T> finish, T* __restrict__ y, int64_t size) {
  const int64_t i = int64_t(blockIdx.x) * kDirectThreads + threadIdx.x;
  if (i >= size) return;
  const Index4 at(i, s.out_height, s.out_width, s.filters);  // n, p, q, k
  float sum = 0.0f;
  for (int r = 0; r < s.filter_height; ++r) {
    for (int t = 0; t < s.filter_width; ++t) {
      const int h = at.h * s.stride - s.padding + r * s.dilation;
      const int v = at.w * s.stride - s.padding + t * s.dilation;
      if (!s.inside(h, v)) continue;
      const T* from = x + s.x_offset(at.a, h, v, 0);
      const T* filter = w + s.w_offset(at.c, r, t, 0);
      for (int c = 0; c < s.channels; ++c) sum += float(from[c]) * float(filter[c]);
    }
  }
  y[i] = T(finish(sum, at.c, i));
}

template <class T>
__global__ void __launch_bounds__(kDirectThreads, 1)
    conv2d_backward_input_direct(const T* __restrict__ dy, const T* __restrict__ w, ConvSizes s,
                                 T* __restrict__ dx, int64_t size) {
  const int64_t i = int64_t(blockIdx.x) * kDirectThreads + threadIdx.x;
  if (i >= size) return;
  const Index4 at(i, s.height, s.width, s.channels);  // n, h, w, c
  float sum = 0.0f;
  for (int r = 0; r < s.filter_height; ++r) {
    const int top = at.h + s.padding - r * s.dilation;  // p * stride
    if (top < 0 || top % s.stride != 0) continue;
    for (int t = 0; t < s.filter_width; ++t) {
      const int left = at.w + s.padding - t * s.dilation;
      if (left < 0 || left % s.stride != 0) continue;
      const int p = top / s.stride, q = left / s.stride;
      if (!s.inside_output(p, q)) continue;
      const T* gradient = dy + s.y_offset(at.a, p, q, 0);
      for (int k = 0; k < s.filters; ++k) sum += float(gradient[k]) * float(w[s.w_offset(k, r, t, at.c)]);
    }
  }
  dx[i] = T(sum);
}

// Sums per image first: one long chain of additions in float would lose digits.
template <class T, class Out>
__global__ void __launch_bounds__(kDirectThreads, 1)
    conv2d_backward_weight_direct(const T* __restrict__ x, const T* __restrict__ dy, ConvSizes s,
                                  Out* __restrict__ dw, int64_t size) {
  const int64_t i = int64_t(blockIdx.x) * kDirectThreads + threadIdx.x;
  if (i >= size) return;
  const Index4 at(i, s.filter_height, s.filter_width, s.channels);  // k, r, s, c
  float total = 0.0f;
  for (int n = 0; n < s.images; ++n) {
    float sum = 0.0f;
    for (int p = 0; p < s.out_height; ++p) {
      for (int q = 0; q < s.out_width; ++q) {
        const int h = p * s.stride - s.padding + at.h * s.dilation;
        const int v = q * s.stride - s.padding + at.w * s.dilation;
        if (s.inside(h, v)) sum += float(x[s.x_offset(n, h, v, at.c)]) * float(dy[s.y_offset(n, p, q, at.a)]);
      }
    }
    total += sum;
  }
  dw[i] = Out(total);
}

simt::Launch thread_per_element(const Context& context, const Tensor& out) {
  return {dim3(unsigned(ceil_div(out.size(), kDirectThreads))), dim3(kDirectThreads), 0, stream_of(context)};
}

void run_direct_forward(Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& params,
                        const Epilogue& epilogue, Tensor& y) {
  if (y.size() == 0) return;
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    simt::launch<conv2d_forward_direct<T>>(thread_per_element(context, y), x.data<T>(), w.data<T>(),
                                           ConvSizes(x, w, y, params), EpilogueView<T>(epilogue), y.data<T>(),
                                           y.size());
  });
}

void run_direct_backward_input(Context& context, const Tensor& dy, const Tensor& w,
                               const Conv2dParams& params, Tensor& dx) {
  if (dx.size() == 0) return;
  dispatch_floating(dy.dtype(), [&](auto zero) {
    using T = decltype(zero);
    simt::launch<conv2d_backward_input_direct<T>>(thread_per_element(context, dx), dy.data<T>(), w.data<T>(),
                                                  ConvSizes(dx, w, dy, params), dx.data<T>(), dx.size());
  });
}

void run_direct_backward_weight(Context& context, const Tensor& x, const Tensor& dy,
                                const Conv2dParams& params, Tensor& dw) {
  if (dw.size() == 0) return;
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    dispatch_result<T>(dw.dtype(), [&](auto result) {
      using Out = decltype(result);
      simt::launch<conv2d_backward_weight_direct<T, Out>>(thread_per_element(context, dw), x.data<T>(),
                                                          dy.data<T>(), ConvSizes(x, dw, dy, params),
                                                          dw.data<Out>(), dw.size());
    });
  });
}

// Below our other variants, whatever order the files register in.
constexpr int kPriority = KernelSlotBase::kOwn - 1;

const bool conv2d_direct_registered =
    conv2d_forward.add(kThisDevice, {{"direct", always, run_direct_forward}}, kPriority) &&
    conv2d_backward_input.add(kThisDevice, {{"direct", always, run_direct_backward_input}}, kPriority) &&
    conv2d_backward_weight.add(kThisDevice, {{"direct", always, run_direct_backward_weight}}, kPriority);

}  // namespace
}  // namespace plume::PLUME_KERNELS
