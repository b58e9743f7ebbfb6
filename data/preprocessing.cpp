#include "data/preprocessing.h"

#include <algorithm>
#include <cmath>

#include "engine/core/error.h"

namespace plume::data {
namespace {

// torchvision's presets resize the shorter side to 256 for a crop of 224.
int64_t resized_side(int64_t image_size) { return (image_size * 256 + 112) / 224; }

AugmentParams common_augmentation(const Preprocessing& how) {
  AugmentParams params;
  params.output_height = int(how.crop.height);
  params.output_width = int(how.crop.width);
  params.interpolation = how.interpolation;
  params.rotate180 = how.rotate180;
  params.statistics = how.statistics;
  return params;
}

// Whether the crop shows all of every image of the set.
bool shows_whole_images(const Preprocessing& how, const Dataset& set) {
  if (how.squash) return true;
  return set.uniform() && resized_to_shorter_side({set.height(), set.width()}, how.resize) == how.crop;
}

}  // namespace

Preprocessing preprocessing_for(const DatasetInfo& images, int64_t image_size, bool squash) {
  Preprocessing how;
  how.statistics = images.statistics;
  how.squash = squash;
  const bool uniform = images.height > 0;
  PLUME_CHECK(image_size > 0 || uniform,
              "--image-size: the images of {} are of different sizes: say which one the network takes",
              images.name);
  if (image_size == 0) {
    how.crop = {images.height, images.width};
    how.resize = std::min(images.height, images.width);
    return how;
  }
  const bool whole =
      uniform && !images.any_size && images.height == images.width && images.height <= image_size;
  how.crop = {image_size, image_size};
  how.resize = whole || squash ? image_size : resized_side(image_size);
  return how;
}

Preprocessing with_input_size(const Preprocessing& how, int64_t image_size) {
  const int64_t side = std::min(how.crop.height, how.crop.width);
  Preprocessing other = how;
  other.resize = std::clamp<int64_t>((image_size * how.resize + side / 2) / side, 1, kMostInputSide);
  other.crop = {image_size, image_size};
  return other;
}

AugmentParams evaluation_augmentation(const Preprocessing& how) {
  AugmentParams params = common_augmentation(how);
  params.resize_shorter = how.squash ? 0 : int(how.resize);
  return params;
}

AugmentParams training_augmentation(const Preprocessing& how, const Dataset& set, const TrainingCrop& crop) {
  AugmentParams params = common_augmentation(how);
  params.random_resized_crop = crop.random_resized;
  if (crop.random_resized) return params;
  params.crop_padding = int(crop.padding);
  params.random_crop = !shows_whole_images(how, set);
  if (params.random_crop) params.resize_shorter = int(how.resize);
  return params;
}

void preprocess(const Image& image, const Preprocessing& how, float* out) {
  const Augmenter augmenter(0, 0, evaluation_augmentation(how));
  augmenter({image.pixels, image.height, image.width, 0}, 0, 0, out);
}

Image as_seen(const float* prepared, const Preprocessing& how) {
  Image image{int(how.crop.height), int(how.crop.width), {}};
  const size_t values = size_t(how.crop.height) * size_t(how.crop.width) * kChannels;
  image.pixels.reserve(values);
  for (size_t i = 0; i < values; ++i) {
    const size_t c = i % kChannels;
    const float x = prepared[i] * how.statistics.std[c] + how.statistics.mean[c];
    image.pixels.push_back(uint8_t(std::lround(std::clamp(x, 0.0f, 1.0f) * 255.0f)));
  }
  return image;
}

}  // namespace plume::data
