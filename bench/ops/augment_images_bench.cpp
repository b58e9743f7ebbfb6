#include "engine/ops/augment_images.h"

#include "bench/support/slot_bench.h"
#include "data/augment/augment.h"

namespace plume {

static std::string describe(const AugmentBatch& batch) {
  return message("{}images_{}bytes_{}{}", batch.images(), batch.pixels.size(),
                 batch.taps.defined() ? "resampled" : "cut", batch.has_ops ? "_ops" : "");
}

namespace bench {
namespace {

AugmentBatch batch_of(int size, const data::AugmentParams& params, Device device) {
  constexpr int64_t kImages = 128;
  const int64_t image_bytes = int64_t(size) * size * 3;
  const data::Augmenter augmenter(size, size, params);
  data::TapTable taps;
  std::vector<AugmentPlan> plans;
  AugmentBatch batch;
  for (int64_t i = 0; i < kImages; ++i) {
    plans.push_back(augmenter.plan({size, size}, 0, i, taps));
    plans.back().offset = i * image_bytes;
    batch.has_ops = batch.has_ops || plans.back().op_count > 0;
  }
  std::vector<uint8_t> pixels(size_t(kImages * image_bytes));
  RandomSequence random(1);
  for (uint8_t& p : pixels) p = uint8_t(random.bits());
  batch.pixels = Tensor::from(pixels, {int64_t(pixels.size())}, device);
  batch.plans = Tensor::from_bytes(plans.data(), {kImages, int64_t(sizeof(AugmentPlan))}, DType::u8, device);
  if (!taps.values().empty())
    batch.taps = Tensor::from(taps.values(), {int64_t(taps.values().size())}, device);
  batch.height = augmenter.height();
  batch.width = augmenter.width();
  batch.normalization = augmenter.normalization();
  return batch;
}

// Networks are given augmented images: CIFAR's recipe, the same at 224, AutoAugment, and resized crops.
void derive(SlotBench<AugmentImages>& bench, Device device) {
  const auto note = [&](int size, const data::AugmentParams& params) {
    const AugmentBatch batch = batch_of(size, params, device);
    const Shape shape{batch.images(), int64_t(batch.height), int64_t(batch.width), 3};
    for (const DType dtype : {DType::f32, DType::bf16})
      bench.note({batch, outline(Tensor::empty(shape, dtype, device))});
  };
  data::AugmentParams plain;
  plain.crop_padding = 4;
  plain.flip = true;
  plain.statistics = data::kImageNetStatistics;
  note(32, plain);
  data::AugmentParams policy = plain;
  policy.policy.policy = data::Policy::autoaugment_cifar10;
  note(32, policy);
  data::AugmentParams large = plain;
  large.output_height = large.output_width = 224;
  note(32, large);
  data::AugmentParams crops = large;
  crops.crop_padding = 0;
  crops.random_resized_crop = true;
  note(256, crops);
}

const bool augment_images_registered = bench_slot<augment_images_forward>({.derive = derive});

}  // namespace
}  // namespace bench
}  // namespace plume
