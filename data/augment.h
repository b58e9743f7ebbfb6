// From bytes to normalised floats, with random crop and flip: a pure function of (image, seed, epoch, index),
// so the same for any number of worker threads.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "data/dataset.h"

namespace plume::data {

struct AugmentParams {
  int crop_padding = 0;  // pad each side by this many black pixels, then cut the size out at a random place
  bool flip = false;     // mirror left-right with probability 1/2
  ChannelStatistics statistics;
  uint64_t seed = 0;
};

// Crop and flip of CIFAR training: padding 4, flip.
AugmentParams training_augmentation(const ChannelStatistics& statistics, uint64_t seed);
// Normalisation alone.
AugmentParams evaluation_augmentation(const ChannelStatistics& statistics);

// What the random numbers say for one image.
struct AugmentDraw {
  int dy = 0, dx = 0;  // output (y, x) shows input (y + dy, x + dx), black outside; in [-padding, padding]
  bool flip = false;   // mirrored after the crop
};

class Augmenter {
 public:
  // Throws usage on a negative padding, one larger than the image, or a std that is not positive.
  Augmenter(int height, int width, const AugmentParams& params);

  AugmentDraw draw(int64_t epoch, int64_t index) const;
  // pixels [height, width, 3] -> out [height, width, 3]: (x / 255 - mean) / std, padding being x = 0.
  void apply(std::span<const uint8_t> pixels, const AugmentDraw& draw, float* out) const;
  void operator()(std::span<const uint8_t> pixels, int64_t epoch, int64_t index, float* out) const {
    apply(pixels, draw(epoch, index), out);
  }

 private:
  int height_, width_;
  AugmentParams params_;
  // Per value of a row, so that a row is one loop over contiguous memory.
  std::vector<float> scale_, shift_;
};

}  // namespace plume::data
