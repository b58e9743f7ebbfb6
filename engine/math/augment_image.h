// Carries out augmentation plans on the host, one image at a time: the loader's threads and the cpu device.
#pragma once
#include <cstdint>
#include <vector>

#include "engine/math/augment_plan.h"

namespace plume {

// Memory that is reused from image to image; one per thread.
struct AugmentScratch {
  std::vector<uint8_t> image, other, window, lines;
};

// Bytes [height, width, 3] after the image operation, in place.
void apply_image_op(const ImageOp& op, int height, int width, std::vector<uint8_t>& image,
                    AugmentScratch& scratch);

struct AugmentOutput {
  int height, width;
  PixelNormalization normalization;
};

// Fills scratch.image with the output's bytes, before normalisation. `pixels`: of this image.
void augment_bytes(const AugmentPlan& plan, const uint8_t* pixels, const int32_t* taps, int height, int width,
                   AugmentScratch& scratch);
// The whole plan: out [height, width, 3]. T is float, bf16 or f16.
template <class T>
void augment_image(const AugmentPlan& plan, const uint8_t* pixels, const int32_t* taps,
                   const AugmentOutput& output, T* out, AugmentScratch& scratch);

}  // namespace plume
