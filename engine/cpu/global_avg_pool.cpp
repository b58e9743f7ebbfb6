#include "engine/ops/global_avg_pool.h"

#include "engine/cpu/mean_of_pixels.h"

namespace plume::cpu {
namespace {

void run_forward(Context&, const Tensor& x, Tensor& y) {
  const int64_t plane = x.dim(1) * x.dim(2), channels = x.dim(3);
  if (y.size() == 0) return;
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* in = x.data<T>();
    dispatch_result<T>(y.dtype(), [&](auto result) {
      auto* out = y.data<decltype(result)>();
      parallel_for(x.dim(0), row_grain(plane * channels), [=](int64_t begin, int64_t end) {
        std::vector<double> sums;
        for (int64_t n = begin; n < end; ++n)
          mean_of_pixels(in + n * plane * channels, plane, channels, channels, sums, out + n * channels);
      });
    });
  });
}

void run_backward(Context&, const Tensor& dy, Tensor& dx) {
  const int64_t plane = dx.dim(1) * dx.dim(2), channels = dx.dim(3);
  const float scale = 1.0f / float(plane);
  dispatch_floating(dy.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* gradient = dy.data<T>();
    T* out = dx.data<T>();
    parallel_for(dx.dim(0), row_grain(plane * channels), [=](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n)
        for (int64_t i = 0; i < plane; ++i) {
          T* values = out + (n * plane + i) * channels;
          for (int64_t c = 0; c < channels; ++c) values[c] = T(float(gradient[n * channels + c]) * scale);
        }
    });
  });
}

const bool registered = global_avg_pool_forward.add(Device::cpu, {{"loop", always, run_forward}}) &&
                        global_avg_pool_backward.add(Device::cpu, {{"loop", always, run_backward}});

}  // namespace
}  // namespace plume::cpu
