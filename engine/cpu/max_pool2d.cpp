#include "engine/ops/max_pool2d.h"

#include "engine/cpu/parallel.h"

namespace plume::cpu {
namespace {

void run_forward(Context&, const Tensor& x, const MaxPool2dParams& params, Tensor& y, Tensor& argmax) {
  const int64_t height = x.dim(1), width = x.dim(2), channels = x.dim(3);
  const int64_t out_height = y.dim(1), out_width = y.dim(2);
  if (y.size() == 0) return;
  int32_t* places = argmax.data<int32_t>();
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* in = x.data<T>();
    T* out = y.data<T>();
    const int64_t pixels = y.size() / channels;
    parallel_for(pixels, row_grain(channels), [=, &params](int64_t begin, int64_t end) {
      std::vector<float> best_of(static_cast<size_t>(channels));
      float* best = best_of.data();
      for (int64_t pixel = begin; pixel < end; ++pixel) {
        const int64_t q = pixel % out_width, p = pixel / out_width % out_height;
        const int64_t n = pixel / (out_width * out_height);
        const int64_t top = p * params.stride - params.padding, left = q * params.stride - params.padding;
        const int64_t h0 = std::max<int64_t>(top, 0), h1 = std::min(top + params.window, height);
        const int64_t w0 = std::max<int64_t>(left, 0), w1 = std::min(left + params.window, width);
        const T* image = in + n * height * width * channels;
        int32_t* place = places + pixel * channels;
        // Every window holds at least one input: padding is at most half of it.
        const int32_t first = int32_t(h0 * width + w0);
        for (int64_t c = 0; c < channels; ++c) {
          best[c] = float(image[first * channels + c]);
          place[c] = first;
        }
        for (int64_t h = h0; h < h1; ++h)
          for (int64_t w = w0; w < w1; ++w) {
            const int32_t here = int32_t(h * width + w);
            const T* values = image + here * channels;
            PLUME_SIMD
            for (int64_t c = 0; c < channels; ++c) {
              const float v = float(values[c]);
              // True for a larger value and for the first NaN.
              const bool wins = !(v <= best[c]) & (best[c] == best[c]);
              best[c] = wins ? v : best[c];
              place[c] = wins ? here : place[c];
            }
          }
        T* row = out + pixel * channels;
        for (int64_t c = 0; c < channels; ++c) row[c] = T(best[c]);
      }
    });
  });
}

void run_backward(Context&, const Tensor& dy, const Tensor& argmax, const MaxPool2dParams& params,
                  Tensor& dx) {
  const int64_t height = dx.dim(1), width = dx.dim(2), channels = dx.dim(3);
  const int64_t out_height = dy.dim(1), out_width = dy.dim(2);
  if (dx.size() == 0) return;
  const int32_t* places = argmax.data<int32_t>();
  // The windows first..last that cover an input coordinate.
  const auto first_window = [&params](int64_t i) {
    return std::max<int64_t>(0, (i + params.padding - params.window + params.stride) / params.stride);
  };
  const auto last_window = [&params](int64_t i, int64_t count) {
    return std::min<int64_t>(count - 1, (i + params.padding) / params.stride);
  };
  dispatch_floating(dy.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* gradient = dy.data<T>();
    T* out = dx.data<T>();
    parallel_for(dx.size() / channels, row_grain(channels), [&, gradient, out](int64_t begin, int64_t end) {
      std::vector<float> sums(static_cast<size_t>(channels));
      float* sum = sums.data();
      for (int64_t pixel = begin; pixel < end; ++pixel) {
        const int64_t w = pixel % width, h = pixel / width % height, n = pixel / (width * height);
        const int32_t here = int32_t(h * width + w);
        std::fill(sums.begin(), sums.end(), 0.0f);
        for (int64_t p = first_window(h); p <= last_window(h, out_height); ++p)
          for (int64_t q = first_window(w); q <= last_window(w, out_width); ++q) {
            const int64_t window = ((n * out_height + p) * out_width + q) * channels;
            PLUME_SIMD
            for (int64_t c = 0; c < channels; ++c)
              sum[c] += places[window + c] == here ? float(gradient[window + c]) : 0.0f;
          }
        T* row = out + pixel * channels;
        for (int64_t c = 0; c < channels; ++c) row[c] = T(sum[c]);
      }
    });
  });
}

const bool registered = max_pool2d_forward.add(Device::cpu, {{"loop", always, run_forward}}) &&
                        max_pool2d_backward.add(Device::cpu, {{"loop", always, run_backward}});

}  // namespace
}  // namespace plume::cpu
