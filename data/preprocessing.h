// What is done to an image before a network sees it: one description for training, evaluation and prediction.
#pragma once
#include <cstdint>

#include "data/augment/augment.h"
#include "data/dataset.h"
#include "data/images/resize.h"

namespace plume::data {

inline constexpr int64_t kMostInputSide = kMostAugmentSide;  // of resize and crop

struct Preprocessing {
  int64_t resize = 256;  // of the shorter side
  bool squash = false;   // instead of that: whole images become as large as the crop, whatever their shape
  ImageSize crop{224, 224};  // from the middle
  Interpolation interpolation = Interpolation::bilinear;
  bool rotate180 = false;  // after the crop
  ChannelStatistics statistics = kImageNetStatistics;

  bool operator==(const Preprocessing&) const = default;
};

// What images are prepared like for a network with square inputs; image_size 0: with inputs as large as they
// are. Whole images where that shows them at their own scale, that is where all are of one square size and no
// larger; otherwise the shorter side becomes 256/224 of image_size, as in torchvision's presets. `squash`:
// whole images always. Throws usage where image_size is 0 and the images are of different sizes.
Preprocessing preprocessing_for(const DatasetInfo& images, int64_t image_size, bool squash = false);
// The same for inputs of another size, in proportion.
Preprocessing with_input_size(const Preprocessing& how, int64_t image_size);

// Nothing is drawn at random.
AugmentParams evaluation_augmentation(const Preprocessing& how);

// The part of augmentation that decides an image's scale and place in training.
struct TrainingCrop {
  int64_t padding = 4;          // random crop with so many black pixels around; 0: the crop alone
  bool random_resized = false;  // instead: RandomResizedCrop
};
// Images at the scale and in the shape in which they are evaluated, at a random place: of the images
// themselves where the evaluation's crop shows whole images of `set`, otherwise of the resized ones.
AugmentParams training_augmentation(const Preprocessing& how, const Dataset& set, const TrainingCrop& crop);

// -> [crop height, crop width, 3]: to the last bit what a loader with evaluation_augmentation(how) makes.
void preprocess(const Image& image, const Preprocessing& how, float* out);
// And back: what the network sees, as an image.
Image as_seen(const float* prepared, const Preprocessing& how);

}  // namespace plume::data
