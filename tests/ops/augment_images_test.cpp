#include "engine/ops/augment_images.h"

#include <gtest/gtest.h>

#include "data/augment/augment.h"
#include "tests/support/check_op.h"
#include "tests/support/coverage.h"
#include "tests/support/drawn_images.h"
#include "tests/support/guarded_tensor.h"
#include "tests/support/preprocessed.h"

namespace plume::test {
namespace {

// Images of several sizes and contents, and the plans that augmenters with these parameters draw for them.
struct AugmentCase {
  std::string label;
  data::AugmentParams params;
  std::vector<data::Image> images;
};

AugmentBatch batch_of(const AugmentCase& c) {
  const data::Augmenter augmenter(c.images[0].height, c.images[0].width, c.params);
  data::TapTable taps;
  std::vector<uint8_t> pixels;
  std::vector<AugmentPlan> plans;
  AugmentBatch batch;
  for (size_t i = 0; i < c.images.size(); ++i) {
    const data::Image& image = c.images[i];
    AugmentPlan plan = augmenter.plan({image.height, image.width}, 1, int64_t(i), taps);
    plan.offset = int64_t(pixels.size());
    pixels.insert(pixels.end(), image.pixels.begin(), image.pixels.end());
    batch.has_ops = batch.has_ops || plan.op_count > 0;
    plans.push_back(plan);
  }
  batch.pixels = Tensor::from(pixels, {int64_t(pixels.size())});
  batch.plans = Tensor::from_bytes(plans.data(), {int64_t(plans.size()), int64_t(sizeof(AugmentPlan))},
                                   DType::u8, Device::cpu);
  if (!taps.values().empty()) batch.taps = Tensor::from(taps.values(), {int64_t(taps.values().size())});
  batch.height = augmenter.height();
  batch.width = augmenter.width();
  batch.normalization = augmenter.normalization();
  return batch;
}

std::vector<data::Image> drawn(int height, int width, int count) {
  std::vector<data::Image> images;
  for (int i = 0; i < count; ++i)
    images.push_back(draw(i % 3 == 0 ? "noise" : i % 3 == 1 ? "smooth" : "dark", height, width));
  return images;
}

std::vector<AugmentCase> augment_cases() {
  std::vector<AugmentCase> all;
  const auto add = [&](const std::string& label, std::vector<data::Image> images, auto change) {
    AugmentCase c{label, cifar_augmentation(data::kImageNetStatistics, 9), std::move(images)};
    change(c.params);
    all.push_back(std::move(c));
  };
  std::vector<data::Image> mixed;
  for (const auto& [height, width] : {std::pair{31, 17}, {5, 40}, {64, 64}, {1, 1}, {33, 2}})
    mixed.push_back(draw("noise", height, width));
  add("crop and flip", drawn(32, 32, 6), [](auto&) {});
  add("crop, to a larger size", drawn(9, 11, 4), [](auto& p) { p.output_height = 40, p.output_width = 37; });
  add("center crop, bicubic", mixed, [](auto& p) {
    p.crop_padding = 0, p.resize_shorter = 20, p.output_height = p.output_width = 16;
    p.interpolation = data::Interpolation::bicubic;
  });
  add("random crop of the resized image", mixed,
      [](auto& p) { p.resize_shorter = 20, p.random_crop = true, p.output_height = p.output_width = 16; });
  add("resized crop, erasing", mixed, [](auto& p) {
    p.crop_padding = 0, p.random_resized_crop = true, p.output_height = p.output_width = 19;
    p.erasing = 0.7;
  });
  for (const std::string& policy : data::policy_names()) {
    if (policy == "none") continue;
    add(policy, drawn(13, 17, 24), [&](auto& p) {
      p.policy.policy = data::parse_policy(policy);
      p.policy.randaugment_ops = 3;
      p.erasing = 0.25;
    });
  }
  add("all of it", mixed, [](auto& p) {
    p.crop_padding = 0, p.random_resized_crop = true, p.output_height = 21, p.output_width = 18;
    p.policy.policy = data::Policy::autoaugment_imagenet;
    p.erasing = 0.5;
  });
  return all;
}

AugmentBatch on(AugmentBatch batch, Device device) {
  batch.pixels = batch.pixels.to(device);
  batch.plans = batch.plans.to(device);
  if (batch.taps.defined()) batch.taps = batch.taps.to(device);
  return batch;
}

// What the loader's threads make of the same images.
std::vector<float> by_loader(const AugmentCase& c) {
  const data::Augmenter augmenter(c.images[0].height, c.images[0].width, c.params);
  const size_t size = size_t(augmenter.height()) * size_t(augmenter.width()) * 3;
  std::vector<float> out(size * c.images.size());
  for (size_t i = 0; i < c.images.size(); ++i) {
    const data::Image& image = c.images[i];
    augmenter({image.pixels, image.height, image.width, 0}, 1, int64_t(i), out.data() + i * size);
  }
  return out;
}

TEST(AugmentImagesTest, EveryDeviceGivesTheLoadersImagesToTheLastBit) {
  KernelSlot<AugmentImages>& slot = augment_images_forward;
  for (const AugmentCase& c : augment_cases()) {
    const AugmentBatch batch = batch_of(c);
    const std::vector<float> expected = by_loader(c);
    for (const Device device : devices_under_test()) {
      const AugmentBatch here = on(batch, device);
      for (int v = 0; v < slot.variant_count(device); ++v)
        for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
          const std::string variant = slot.variant_name(device, v);
          SCOPED_TRACE(message("{} on {} ({}), {}", c.label, device, variant, dtype));
          GuardedTensor images({batch.images(), int64_t(batch.height), int64_t(batch.width), 3}, dtype,
                               device);
          Tensor out = images.tensor();
          slot.force(device, variant);
          slot(context(device), here, out);
          slot.force(device, "");
          remember_run(slot.name(), device, variant);
          EXPECT_EQ(images.overrun(), "");
          const std::vector<double> got = to_doubles(out);
          const std::vector<double> wanted =
              to_doubles(to_tensor({expected.begin(), expected.end()}, out.shape(), dtype, Device::cpu));
          ASSERT_EQ(got, wanted);
        }
    }
  }
}

TEST(AugmentImagesTest, BringsABatchToTheDevice) {
  const AugmentCase c = augment_cases()[0];
  for (const Device device : devices_under_test()) {
    const Tensor images = augment_images(batch_of(c), device);
    EXPECT_EQ(images.device(), device);
    EXPECT_EQ(images.to_vector<float>(), by_loader(c));
  }
}

TEST(AugmentImagesTest, RefusesWhatDoesNotFit) {
  const AugmentBatch good = batch_of(augment_cases()[0]);
  const auto refuses = [&](auto change) {
    AugmentBatch batch = good;
    change(batch);
    EXPECT_THROW(augment_images(batch, Device::cpu), Error);
  };
  refuses([](AugmentBatch& b) { b.plans = {}; });
  refuses([](AugmentBatch& b) { b.plans = b.plans.reshape({b.plans.size()}); });
  refuses([](AugmentBatch& b) { b.pixels = {}; });
  refuses([](AugmentBatch& b) { b.pixels = Tensor::zeros({3}, DType::f32, Device::cpu); });
  refuses([](AugmentBatch& b) { b.width = 0; });
  refuses([](AugmentBatch& b) { b.height = kMostAugmentSide + 1; });
}

}  // namespace
}  // namespace plume::test
