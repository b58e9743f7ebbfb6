// What is done to one image on its way into a batch, fully drawn: plain numbers that worker threads and
// kernels carry out alike.
//
//   source box of the image -> resampled or as it is -> placed in the output -> mirrored -> image operations
//   -> (x / 255 - mean) / std -> erased box
#pragma once
#include <array>
#include <cstdint>

#include "engine/core/tensor.h"
#include "engine/math/pixel_ops.h"

namespace plume {

struct PixelBox {
  int32_t top = 0, left = 0, height = 0, width = 0;
  PLUME_HD bool contains(int y, int x) const {
    return unsigned(y - top) < unsigned(height) && unsigned(x - left) < unsigned(width);
  }
  bool operator==(const PixelBox&) const = default;
};

inline constexpr int kMostImageOps = 4;

struct AugmentPlan {
  int64_t offset = 0;             // of the image's first byte in the batch's pixels
  int32_t height = 0, width = 0;  // of the image
  PixelBox source;                // may reach beyond the image, where everything is black
  // Offsets of the taps (resample.h) in the batch's taps; negative: the source box is not resampled.
  int32_t column_taps = -1, row_taps = -1;
  PixelBox target;  // where in the output the (resampled) source box lies; all else is black
  int32_t flip = 0;
  int32_t op_count = 0;
  ImageOp ops[kMostImageOps];
  PixelBox erased;  // these outputs are 0; empty for none

  bool resampled() const { return column_taps >= 0; }
};

// (x / 255 - mean) / std of channel c as fma(x, scale[c], shift[c]).
struct PixelNormalization {
  std::array<float, 3> scale{1.0f / 255, 1.0f / 255, 1.0f / 255}, shift{};
};

// A batch before augmentation: all that a device needs to make its images.
struct AugmentBatch {
  Tensor pixels;                  // u8 [bytes], images [height, width, 3] wherever their plans say
  Tensor plans;                   // u8 [images, sizeof(AugmentPlan)]
  Tensor taps;                    // i32 [values]; undefined when no plan resamples
  int32_t height = 0, width = 0;  // of the outputs
  bool has_ops = false;           // some plan has image operations
  PixelNormalization normalization;

  template <class Self, class F>
  static void for_each_tensor(Self& self, F&& f) {
    f(self.pixels);
    f(self.plans);
    f(self.taps);
  }
  int64_t images() const { return plans.defined() ? plans.dim(0) : 0; }
};

}  // namespace plume
