// What training and evaluation do to an image, in a line.
#pragma once
#include "data/augment/augment.h"
#include "data/images/resize.h"

namespace plume::test {

// Crop and flip of CIFAR training.
inline data::AugmentParams cifar_augmentation(const data::ChannelStatistics& statistics, uint64_t seed) {
  data::AugmentParams params;
  params.crop_padding = 4;
  params.flip = true;
  params.statistics = statistics;
  params.seed = seed;
  return params;
}

// torchvision's Resize(shorter), CenterCrop(crop).
inline data::Image resize_and_crop(const data::Image& image, int64_t shorter, int64_t crop,
                                   data::Interpolation interpolation = data::Interpolation::bilinear) {
  const data::ImageSize size = data::resized_to_shorter_side({image.height, image.width}, shorter);
  return data::resize(image, size, data::center_window(size, {crop, crop}), interpolation);
}

}  // namespace plume::test
