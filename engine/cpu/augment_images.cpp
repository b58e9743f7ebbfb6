#include "engine/ops/augment_images.h"

#include "engine/cpu/parallel.h"
#include "engine/math/augment_image.h"

namespace plume::cpu {
namespace {

void run(Context&, const AugmentBatch& batch, Tensor& images) {
  const auto* plans = static_cast<const AugmentPlan*>(batch.plans.raw());
  const uint8_t* pixels = batch.pixels.data<uint8_t>();
  const int32_t* taps = batch.taps.defined() ? batch.taps.data<int32_t>() : nullptr;
  const AugmentOutput output{batch.height, batch.width, batch.normalization};
  const int64_t size = int64_t(batch.height) * batch.width * 3;
  dispatch_floating(images.dtype(), [&](auto zero) {
    using T = decltype(zero);
    T* out = images.data<T>();
    parallel_for(batch.images(), 1, [&](int64_t begin, int64_t end) {
      AugmentScratch scratch;
      for (int64_t i = begin; i < end; ++i)
        augment_image(plans[i], pixels + plans[i].offset, taps, output, out + i * size, scratch);
    });
  });
}

const bool registered = augment_images_forward.add(Device::cpu, {{"loop", always, run}});

}  // namespace
}  // namespace plume::cpu
