#include "engine/ops/sum_rows.h"

#include "engine/cpu/parallel.h"

namespace plume::cpu {
namespace {

void run(Context&, const Tensor& x, Tensor& out) {
  const int64_t channels = out.size();
  if (channels == 0) return;
  const int64_t rows = x.size() / channels;
  float* sum = out.data<float>();
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* in = x.data<T>();
    const auto sums = rows_sum<1>(rows, channels, [=](int64_t first, int64_t last, float* partial) {
      for (int64_t row = first; row < last; ++row) {
        const T* values = in + row * channels;
        PLUME_SIMD
        for (int64_t c = 0; c < channels; ++c) partial[c] += float(values[c]);
      }
    });
    for (int64_t c = 0; c < channels; ++c) sum[c] = float(sums[size_t(c)]);
  });
}

const bool registered = sum_rows_forward.add(Device::cpu, {{"loop", always, run}});

}  // namespace
}  // namespace plume::cpu
