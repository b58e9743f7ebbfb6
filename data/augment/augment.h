// Random crops, flips, automatic augmentation and erasing, drawn on the host: for each image a plan
// (engine/math/augment_plan.h) that is a pure function of (seed, epoch, index), so the same for any number of
// worker threads. Carried out by those threads or by a device, byte for byte alike.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "data/augment/policies.h"
#include "data/dataset.h"
#include "data/images/resize.h"
#include "engine/math/augment_image.h"

namespace plume::data {

// In this order: resize and crop (one of four, or none), flip, rotation, policy, normalisation, erasing.
// What evaluation wants of these is data/preprocessing.h's.
struct AugmentParams {
  // The outputs' size. 0: that of the data set's images, which must then all have one.
  int output_height = 0, output_width = 0;

  // RandomCrop(size of the image, padding): each side gets this many black pixels, then the image's size is
  // cut out at a random place, and resized when the outputs have another size.
  int crop_padding = 0;
  // RandomResizedCrop(output size, scale, ratio).
  bool random_resized_crop = false;
  double scale_low = 0.08, scale_high = 1, ratio_low = 3.0 / 4, ratio_high = 4.0 / 3;
  // Resize(shorter side), CenterCrop(output size), as for evaluation at 224; 0 for no such crop.
  int resize_shorter = 0;
  // With resize_shorter: RandomCrop(output size, crop_padding) of the resized image instead, so that training
  // sees images at the scale and in the shape in which they are evaluated.
  bool random_crop = false;
  // Without any of these a whole image is resized to the outputs' size, and loses its shape when that is
  // another.
  Interpolation interpolation = Interpolation::bilinear;

  bool flip = false;       // mirror left-right with probability 1/2
  bool rotate180 = false;  // every image: by half a turn, after the crop
  PolicyParams policy;
  // RandomErasing(p, scale (0.02, 0.33), ratio (0.3, 3.3), value 0): zero after normalisation.
  double erasing = 0;
  ChannelStatistics statistics;
  uint64_t seed = 0;
};

// The taps of resized images, each axis once: what AugmentPlan's offsets point into.
class TapTable {
 public:
  int32_t add(const ResampleAxis& axis, ResampleFilter filter);
  const std::vector<int32_t>& values() const { return values_; }
  void clear();

 private:
  struct Entry {
    ResampleAxis axis;
    ResampleFilter filter;
    int32_t offset;
  };
  std::vector<Entry> entries_;
  std::vector<int32_t> values_;
};

class Augmenter {
 public:
  // height, width: of the outputs where `params` does not say. Throws usage on parameters out of range.
  Augmenter(int height, int width, const AugmentParams& params);

  int height() const { return params_.output_height; }
  int width() const { return params_.output_width; }
  const AugmentParams& params() const { return params_; }
  const PixelNormalization& normalization() const { return normalization_; }

  // For an image of height x width. Throws bad_input when the image cannot be cropped as asked.
  AugmentPlan plan(ImageSize image, int64_t epoch, int64_t index, TapTable& taps) const;
  // Throws bad_input unless the sample has as many bytes as pixels.
  void check_sample(const Sample& sample, int64_t index) const;
  // Draws and carries out: pixels [height, width, 3] -> out [height(), width(), 3], (x / 255 - mean) / std.
  void operator()(const Sample& sample, int64_t epoch, int64_t index, float* out) const;
  // The bytes before normalisation and erasing, for people to look at.
  Image picture(const Sample& sample, int64_t epoch, int64_t index) const;

 private:
  void plan_geometry(AugmentPlan& plan, ImageSize image, int64_t epoch, int64_t index, TapTable& taps) const;

  AugmentParams params_;
  PixelNormalization normalization_;
};

}  // namespace plume::data
