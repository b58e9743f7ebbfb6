#include "engine/ops/max_pool2d.h"

#include "engine/cpu/conv/panel_gemm.h"
#include "engine/cpu/max_pool_row.h"
#include "engine/cpu/parallel.h"
#include "engine/cpu/scratch.h"

namespace plume::cpu {

void max_pool_row(const MaxPoolRow& row) {
#if defined(__x86_64__)
  if (has_avx512() && row.channels >= 16) return max_pool_row_avx512(row);
#endif
  max_pool_row<Lanes8>(row);
}

namespace {

// The window of each output pixel, clipped to the image: f(pixel, first input pixel of its image, h0, h1, w0,
// w1, the window's place of h0, w0).
template <class F>
void for_each_window(const Tensor& x, const MaxPool2dParams& params, const Tensor& y, const F& f) {
  const int64_t height = x.dim(1), width = x.dim(2), out_height = y.dim(1), out_width = y.dim(2);
  parallel_for(y.dim(0) * out_height, row_grain(out_width * y.dim(3)), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t top = row % out_height * params.stride - params.padding;
      const int64_t h0 = std::max<int64_t>(top, 0), h1 = std::min(top + params.window, height);
      for (int64_t q = 0; q < out_width; ++q) {
        const int64_t left = q * params.stride - params.padding;
        const int64_t w0 = std::max<int64_t>(left, 0), w1 = std::min(left + params.window, width);
        f(row * out_width + q, row / out_height * height * width, h0, h1, w0, w1,
          int32_t((h0 - top) * params.window + w0 - left));
      }
    }
  });
}

// Without places: max_pool_row.h.
void run_columns(Context&, const Tensor& x, const MaxPool2dParams& params, Tensor& y, Tensor&) {
  const int64_t height = x.dim(1), out_height = y.dim(1);
  const int64_t line = x.dim(2) * x.dim(3), out_line = y.dim(2) * y.dim(3);
  const float* in = x.data<float>();
  float* out = y.data<float>();
  parallel_for(y.dim(0) * out_height, row_grain(out_line), [&](int64_t begin, int64_t end) {
    static thread_local Scratch<float> columns;
    for (int64_t row = begin; row < end; ++row) {
      const int64_t top = row % out_height * params.stride - params.padding;
      const int64_t h0 = std::max<int64_t>(top, 0), h1 = std::min(top + params.window, height);
      max_pool_row({in + (row / out_height * height + h0) * line, h1 - h0, x.dim(2), x.dim(3), params.window,
                    params.stride, params.padding, columns.get(line), out + row * out_line, y.dim(2)});
    }
  });
}
bool fits_columns(const Context&, const Tensor& x, const MaxPool2dParams&, Tensor& y, Tensor& argmax) {
  return !argmax.defined() && x.dtype() == DType::f32 && x.dim(3) >= 8 && y.size() > 0;
}

void run_forward(Context&, const Tensor& x, const MaxPool2dParams& params, Tensor& y, Tensor& argmax) {
  const int64_t width = x.dim(2), channels = x.dim(3);
  if (y.size() == 0) return;
  uint8_t* places = argmax.defined() ? argmax.data<uint8_t>() : nullptr;
  const int64_t window = params.window;
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* in = x.data<T>();
    T* out = y.data<T>();
    for_each_window(
        x, params, y,
        [=](int64_t pixel, int64_t image, int64_t h0, int64_t h1, int64_t w0, int64_t w1, int32_t code0) {
          constexpr int64_t kBlock = 64;  // channels at a time
          float best[kBlock];
          int32_t place[kBlock];
          for (int64_t first = 0; first < channels; first += kBlock) {
            const int64_t count = std::min(kBlock, channels - first);
            const T* plane = in + image * channels + first;
            // Every window holds at least one input: padding is at most half of it.
            for (int64_t c = 0; c < count; ++c) {
              best[c] = float(plane[(h0 * width + w0) * channels + c]);
              place[c] = code0;
            }
            for (int64_t h = h0; h < h1; ++h)
              for (int64_t w = w0; w < w1; ++w) {
                const int32_t here = code0 + int32_t((h - h0) * window + w - w0);
                const T* values = plane + (h * width + w) * channels;
                PLUME_SIMD
                for (int64_t c = 0; c < count; ++c) {
                  const float v = float(values[c]);
                  // True for a larger value and for the first NaN.
                  const bool wins = !(v <= best[c]) & (best[c] == best[c]);
                  best[c] = wins ? v : best[c];
                  place[c] = wins ? here : place[c];
                }
              }
            const int64_t at = pixel * channels + first;
            for (int64_t c = 0; c < count; ++c) out[at + c] = T(best[c]);
            if (places)
              for (int64_t c = 0; c < count; ++c) places[at + c] = uint8_t(place[c]);
          }
        });
  });
}

void run_backward(Context&, const Tensor& dy, const Tensor& argmax, const MaxPool2dParams& params,
                  Tensor& dx) {
  const int64_t height = dx.dim(1), width = dx.dim(2), channels = dx.dim(3);
  const int64_t out_height = dy.dim(1), out_width = dy.dim(2);
  if (dx.size() == 0) return;
  const uint8_t* places = argmax.data<uint8_t>();
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
        std::fill(sums.begin(), sums.end(), 0.0f);
        for (int64_t p = first_window(h); p <= last_window(h, out_height); ++p)
          for (int64_t q = first_window(w); q <= last_window(w, out_width); ++q) {
            const int64_t window = ((n * out_height + p) * out_width + q) * channels;
            const int64_t r = h - p * params.stride + params.padding,
                          s = w - q * params.stride + params.padding;
            const uint8_t here = uint8_t(r * params.window + s);
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

const bool registered = max_pool2d_forward.add(Device::cpu, {{"columns", fits_columns, run_columns},
                                                             {"loop", always, run_forward}}) &&
                        max_pool2d_backward.add(Device::cpu, {{"loop", always, run_backward}});

}  // namespace
}  // namespace plume::cpu
