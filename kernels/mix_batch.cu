// mix_batch: a thread makes one pixel of one image from the same pixel of two, all channels of it (three, in
// practice). Neighbouring threads take neighbouring pixels, so that a warp reads 32 * C neighbouring values;
// packs of 16 bytes do not fit three channels, and the second image's values come from cache, for it is its
// neighbour's own.
//
// Bytes: reads x once (each image serves twice, the second time from L2), writes y; reading both images again
// from memory would add half. The bound is memory bandwidth. Targets: N K floats written, nothing to speak
// of.
#include "engine/ops/mix_batch.h"

#include "kernels/common/grid_stride.h"

namespace plume::PLUME_KERNELS {
namespace {

struct MixSizes {
  int64_t batch, height, width, channels;
};

template <class T>
__global__ void mix_images_pixel(const T* __restrict__ x, const float* __restrict__ state, T* __restrict__ y,
                                 MixSizes s) {
  const MixView mix(state);
  const int64_t plane = s.height * s.width, pixels = s.batch * plane;
  for (int64_t i = grid_thread(); i < pixels; i += grid_threads()) {
    const int64_t n = i / plane, place = i % plane;
    const float weight = mix.weight(place / s.width, place % s.width);
    const T* own = x + i * s.channels;
    const T* other = x + ((n == 0 ? s.batch : n) - 1) * plane * s.channels + place * s.channels;
    for (int64_t c = 0; c < s.channels; ++c)
      y[i * s.channels + c] = T(MixView::blend(weight, float(own[c]), float(other[c])));
  }
}

__global__ void mix_targets_element(const int32_t* __restrict__ labels, const float* __restrict__ state,
                                    MixTargetsParams params, float* __restrict__ targets, int64_t batch) {
  const MixView mix(state);
  for (int64_t i = grid_thread(); i < batch * params.classes; i += grid_threads()) {
    const int64_t n = i / params.classes, k = i % params.classes;
    targets[i] = MixView::blend(mix.lambda, MixView::smoothed(params, labels[n], k),
                                MixView::smoothed(params, labels[(n == 0 ? batch : n) - 1], k));
  }
}

void run_images(Context& context, const Tensor& x, const Tensor& state, Tensor& y) {
  if (x.size() == 0) return;
  const MixSizes sizes{x.dim(0), x.dim(1), x.dim(2), x.dim(3)};
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    simt::launch<mix_images_pixel<T>>(grid_stride(context, x.size() / sizes.channels), x.data<T>(),
                                      state.data<float>(), y.data<T>(), sizes);
  });
}

void run_targets(Context& context, const Tensor& labels, const Tensor& state, const MixTargetsParams& params,
                 Tensor& targets) {
  if (targets.size() == 0) return;
  simt::launch<mix_targets_element>(grid_stride(context, targets.size()), labels.data<int32_t>(),
                                    state.data<float>(), params, targets.data<float>(), labels.size());
}

const bool images_registered = mix_images_forward.add(kThisDevice, {{"pixel", always, run_images}});
const bool targets_registered = mix_targets_forward.add(kThisDevice, {{"element", always, run_targets}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
