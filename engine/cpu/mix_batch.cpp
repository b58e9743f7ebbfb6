#include "engine/ops/mix_batch.h"

#include "engine/cpu/parallel.h"

namespace plume::cpu {
namespace {

void run_images(Context&, const Tensor& x, const Tensor& state, Tensor& y) {
  const MixView mix(state.data<float>());
  const int64_t batch = x.dim(0), height = x.dim(1), width = x.dim(2), channels = x.dim(3);
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* in = x.data<T>();
    T* out = y.data<T>();
    parallel_for(batch * height, row_grain(width * channels), [=](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const int64_t n = row / height, h = row % height;
        const T* own = in + row * width * channels;
        const T* other = in + ((n + batch - 1) % batch * height + h) * width * channels;
        T* to = out + row * width * channels;
        for (int64_t w = 0; w < width; ++w, own += channels, other += channels, to += channels) {
          const float weight = mix.weight(h, w);
          for (int64_t c = 0; c < channels; ++c)
            to[c] = T(MixView::blend(weight, float(own[c]), float(other[c])));
        }
      }
    });
  });
}

void run_targets(Context&, const Tensor& labels, const Tensor& state, const MixTargetsParams& params,
                 Tensor& targets) {
  const MixView mix(state.data<float>());
  const int32_t* label = labels.data<int32_t>();
  float* out = targets.data<float>();
  const int64_t batch = labels.size();
  for (int64_t n = 0; n < batch; ++n)
    for (int64_t k = 0; k < params.classes; ++k)
      *out++ = MixView::blend(mix.lambda, MixView::smoothed(params, label[n], k),
                              MixView::smoothed(params, label[(n + batch - 1) % batch], k));
}

const bool images_registered = mix_images_forward.add(Device::cpu, {{"loop", always, run_images}});
const bool targets_registered = mix_targets_forward.add(Device::cpu, {{"loop", always, run_targets}});

}  // namespace
}  // namespace plume::cpu
