// depthwise_conv2d as the equation reads, for every shape and dtype; the channels of a pixel are the inner
// loop.
#include "engine/ops/depthwise_conv2d.h"

#include "engine/cpu/parallel.h"

namespace plume::cpu {
namespace {

struct Sizes {
  int64_t height, width, channels, r, s, out_height, out_width;
  Conv2dParams params;

  Sizes(const Tensor& x, const Tensor& w, const Tensor& y, const Conv2dParams& p)
      : height(x.dim(1)),
        width(x.dim(2)),
        channels(x.dim(3)),
        r(w.dim(0)),
        s(w.dim(1)),
        out_height(y.dim(1)),
        out_width(y.dim(2)),
        params(p) {}
  // The input row (or column) under tap r of output row p.
  int64_t input(int64_t p, int64_t tap) const {
    return p * params.stride - params.padding + tap * params.dilation;
  }
  // The output row that meets input row h under tap r, or -1.
  int64_t output(int64_t h, int64_t tap, int64_t outputs) const {
    const int64_t scaled = h + params.padding - tap * params.dilation;
    if (scaled < 0 || scaled % params.stride != 0 || scaled / params.stride >= outputs) return -1;
    return scaled / params.stride;
  }
};

void run_forward(Context&, const Tensor& x, const Tensor& w, const Conv2dParams& params,
                 const Epilogue& epilogue, Tensor& y) {
  if (y.size() == 0) return;
  const Sizes z(x, w, y, params);
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T *px = x.data<T>(), *pw = w.data<T>();
    T* py = y.data<T>();
    const EpilogueView<T> finish(epilogue);
    parallel_for(y.size() / z.channels, row_grain(z.channels * z.r * z.s),
                 [=, &z](int64_t begin, int64_t end) {
                   std::vector<float> sums(static_cast<size_t>(z.channels));
                   float* sum = sums.data();
                   for (int64_t pixel = begin; pixel < end; ++pixel) {
                     const int64_t q = pixel % z.out_width, p = pixel / z.out_width % z.out_height;
                     const int64_t n = pixel / (z.out_width * z.out_height);
                     std::fill(sums.begin(), sums.end(), 0.0f);
                     for (int64_t r = 0; r < z.r; ++r)
                       for (int64_t s = 0; s < z.s; ++s) {
                         const int64_t ih = z.input(p, r), iw = z.input(q, s);
                         if (ih < 0 || ih >= z.height || iw < 0 || iw >= z.width) continue;
                         const T* in = px + ((n * z.height + ih) * z.width + iw) * z.channels;
                         const T* filter = pw + (r * z.s + s) * z.channels;
                         PLUME_SIMD
                         for (int64_t c = 0; c < z.channels; ++c) sum[c] += float(in[c]) * float(filter[c]);
                       }
                     for (int64_t c = 0; c < z.channels; ++c) {
                       const int64_t i = pixel * z.channels + c;
                       py[i] = T(finish(sum[c], int(c), i));
                     }
                   }
                 });
  });
}

void run_backward_input(Context&, const Tensor& dy, const Tensor& w, const Conv2dParams& params, Tensor& dx) {
  if (dx.size() == 0) return;
  const Sizes z(dx, w, dy, params);
  dispatch_floating(dy.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T *pdy = dy.data<T>(), *pw = w.data<T>();
    T* pdx = dx.data<T>();
    parallel_for(dx.size() / z.channels, row_grain(z.channels * z.r * z.s),
                 [=, &z](int64_t begin, int64_t end) {
                   std::vector<float> sums(static_cast<size_t>(z.channels));
                   float* sum = sums.data();
                   for (int64_t pixel = begin; pixel < end; ++pixel) {
                     const int64_t iw = pixel % z.width, ih = pixel / z.width % z.height,
                                   n = pixel / (z.width * z.height);
                     std::fill(sums.begin(), sums.end(), 0.0f);
                     for (int64_t r = 0; r < z.r; ++r)
                       for (int64_t s = 0; s < z.s; ++s) {
                         const int64_t p = z.output(ih, r, z.out_height), q = z.output(iw, s, z.out_width);
                         if (p < 0 || q < 0) continue;
                         const T* gradient = pdy + ((n * z.out_height + p) * z.out_width + q) * z.channels;
                         const T* filter = pw + (r * z.s + s) * z.channels;
                         PLUME_SIMD
                         for (int64_t c = 0; c < z.channels; ++c)
                           sum[c] += float(gradient[c]) * float(filter[c]);
                       }
                     for (int64_t c = 0; c < z.channels; ++c) pdx[pixel * z.channels + c] = T(sum[c]);
                   }
                 });
  });
}

// Tap by tap: the sums over output rows are split and added as rows_sum does, so that they neither depend on
// the number of threads nor lose digits.
void run_backward_weight(Context&, const Tensor& x, const Tensor& dy, const Conv2dParams& params,
                         Tensor& dw) {
  if (dw.size() == 0) return;
  const Sizes z(x, dw, dy, params);
  const int64_t rows = dy.dim(0) * z.out_height * z.out_width;
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T *px = x.data<T>(), *pdy = dy.data<T>();
    for (int64_t r = 0; r < z.r; ++r)
      for (int64_t s = 0; s < z.s; ++s) {
        const auto sums = rows_sum<1>(rows, z.channels, [=, &z](int64_t first, int64_t last, float* partial) {
          for (int64_t pixel = first; pixel < last; ++pixel) {
            const int64_t q = pixel % z.out_width, p = pixel / z.out_width % z.out_height;
            const int64_t n = pixel / (z.out_width * z.out_height);
            const int64_t ih = z.input(p, r), iw = z.input(q, s);
            if (ih < 0 || ih >= z.height || iw < 0 || iw >= z.width) continue;
            const T* in = px + ((n * z.height + ih) * z.width + iw) * z.channels;
            const T* gradient = pdy + pixel * z.channels;
            PLUME_SIMD
            for (int64_t c = 0; c < z.channels; ++c) partial[c] += float(in[c]) * float(gradient[c]);
          }
        });
        dispatch_result<T>(dw.dtype(), [&](auto result) {
          using Out = decltype(result);
          Out* to = dw.data<Out>() + (r * z.s + s) * z.channels;
          for (int64_t c = 0; c < z.channels; ++c) to[c] = Out(float(sums[size_t(c)]));
        });
      }
  });
}

const bool registered =
    depthwise_conv2d_forward.add(Device::cpu, {{"loop", always, run_forward}}) &&
    depthwise_conv2d_backward_input.add(Device::cpu, {{"loop", always, run_backward_input}}) &&
    depthwise_conv2d_backward_weight.add(Device::cpu, {{"loop", always, run_backward_weight}});

}  // namespace
}  // namespace plume::cpu
