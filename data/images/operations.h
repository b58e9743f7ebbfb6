// The image operations of torchvision's automatic augmentations on Pillow images (nearest pixel, no fill), by
// name and magnitude: transforms/autoaugment.py, version 0.14.
#pragma once
#include <string_view>

#include "engine/math/pixel_ops.h"

namespace plume::data {

enum class ImageOpName : uint8_t {
  identity,
  shear_x,
  shear_y,
  translate_x,
  translate_y,
  rotate,
  brightness,
  color,
  contrast,
  sharpness,
  posterize,
  solarize,
  autocontrast,
  equalize,
  invert,
};
inline constexpr int kImageOpNames = 15;
const char* name(ImageOpName op);                   // "ShearX", as torchvision calls it
ImageOpName parse_image_op(std::string_view text);  // throws usage

// _apply_op(image, name, magnitude): shear as a slope, translate in pixels (cut off), rotate in degrees
// counter-clockwise, brightness, color, contrast and sharpness as the factor's distance from 1, posterize in
// bits kept (cut off), solarize as a threshold; the others have none.
ImageOp make_image_op(ImageOpName op, double magnitude, int height, int width);

}  // namespace plume::data
