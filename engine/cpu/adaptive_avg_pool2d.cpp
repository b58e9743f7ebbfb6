#include "engine/ops/adaptive_avg_pool2d.h"

#include "engine/cpu/parallel.h"
#include "engine/math/adaptive_windows.h"

namespace plume::cpu {
namespace {

void run_forward(Context&, const Tensor& x, Tensor& y) {
  if (y.size() == 0) return;
  const AdaptiveWindows rows{int(x.dim(1)), int(y.dim(1))}, columns{int(x.dim(2)), int(y.dim(2))};
  const int64_t channels = x.dim(3);
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* in = x.data<T>();
    T* out = y.data<T>();
    parallel_for(y.size() / channels, row_grain(channels), [=](int64_t begin, int64_t end) {
      std::vector<float> sums(static_cast<size_t>(channels));
      float* sum = sums.data();
      for (int64_t pixel = begin; pixel < end; ++pixel) {
        const int q = int(pixel % columns.out), p = int(pixel / columns.out % rows.out);
        const T* image = in + pixel / (columns.out * rows.out) * rows.in * columns.in * channels;
        std::fill(sums.begin(), sums.end(), 0.0f);
        for (int64_t h = rows.begin(p); h < rows.end(p); ++h)
          for (int64_t w = columns.begin(q); w < columns.end(q); ++w) {
            const T* values = image + (h * columns.in + w) * channels;
            for (int64_t c = 0; c < channels; ++c) sum[c] += float(values[c]);
          }
        const float area = float(rows.size(p) * columns.size(q));
        for (int64_t c = 0; c < channels; ++c) out[pixel * channels + c] = T(sum[c] / area);
      }
    });
  });
}

void run_backward(Context&, const Tensor& dy, Tensor& dx) {
  if (dx.size() == 0) return;
  const AdaptiveWindows rows{int(dx.dim(1)), int(dy.dim(1))}, columns{int(dx.dim(2)), int(dy.dim(2))};
  const int64_t channels = dx.dim(3);
  dispatch_floating(dy.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* gradient = dy.data<T>();
    T* out = dx.data<T>();
    parallel_for(dx.size() / channels, row_grain(channels), [=](int64_t begin, int64_t end) {
      std::vector<float> sums(static_cast<size_t>(channels));
      float* sum = sums.data();
      for (int64_t pixel = begin; pixel < end; ++pixel) {
        const int w = int(pixel % columns.in), h = int(pixel / columns.in % rows.in);
        const T* image = gradient + pixel / (columns.in * rows.in) * rows.out * columns.out * channels;
        std::fill(sums.begin(), sums.end(), 0.0f);
        for (int p = rows.first(h); p < rows.last(h); ++p)
          for (int q = columns.first(w); q < columns.last(w); ++q) {
            const T* values = image + (int64_t(p) * columns.out + q) * channels;
            const float share = 1 / float(rows.size(p) * columns.size(q));
            for (int64_t c = 0; c < channels; ++c) sum[c] += float(values[c]) * share;
          }
        for (int64_t c = 0; c < channels; ++c) out[pixel * channels + c] = T(sum[c]);
      }
    });
  });
}

const bool registered = adaptive_avg_pool2d_forward.add(Device::cpu, {{"loop", always, run_forward}}) &&
                        adaptive_avg_pool2d_backward.add(Device::cpu, {{"loop", always, run_backward}});

}  // namespace
}  // namespace plume::cpu
