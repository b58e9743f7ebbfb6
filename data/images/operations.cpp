#include "data/images/operations.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <numbers>

#include "engine/core/error.h"

namespace plume::data {
namespace {

constexpr const char* kNames[kImageOpNames] = {
    "Identity", "ShearX",    "ShearY",    "TranslateX", "TranslateY",   "Rotate",   "Brightness", "Color",
    "Contrast", "Sharpness", "Posterize", "Solarize",   "AutoContrast", "Equalize", "Invert"};

double radians(double degrees) { return degrees * (std::numbers::pi / 180.0); }
double degrees(double radians) { return radians * (180.0 / std::numbers::pi); }

// Python's round(x, 15): to the nearest decimal, then to the nearest double.
double round15(double x) {
  char digits[64];
  std::snprintf(digits, sizeof digits, "%.15f", x);
  return std::strtod(digits, nullptr);
}

// The inverse matrix {a, b, c, d, e, f} in 16.16 fixed point, taken at the pixels' centres as Geometry.c
// does.
ImageOp affine(const double (&m)[6]) {
  const auto fixed = [](double v) { return int32_t(std::floor(v * 65536.0 + 0.5)); };
  ImageOp op{.kind = ImageOpKind::affine};
  op.affine[0] = fixed(m[0]), op.affine[1] = fixed(m[1]);
  op.affine[2] = fixed(m[2] + m[0] * 0.5 + m[1] * 0.5);
  op.affine[3] = fixed(m[3]), op.affine[4] = fixed(m[4]);
  op.affine[5] = fixed(m[5] + m[3] * 0.5 + m[4] * 0.5);
  return op;
}

// By way of degrees, as torchvision goes.
double slope(double magnitude) { return std::tan(radians(degrees(std::atan(magnitude)))); }

ImageOp rotation(double magnitude, int height, int width) {
  double angle = std::fmod(magnitude, 360.0);
  if (angle < 0) angle += 360.0;
  if (angle == 0) return {};
  const double turn = -radians(angle);
  const double cosine = round15(std::cos(turn)), sine = round15(std::sin(turn));
  const double x = width / 2.0, y = height / 2.0;  // Pillow turns about the image's middle
  return affine(
      {cosine, sine, cosine * -x + sine * -y + 0.0 + x, -sine, cosine, -sine * -x + cosine * -y + 0.0 + y});
}

ImageOp with_factor(ImageOpKind kind, double magnitude) {
  return {.kind = kind, .factor = float(1.0 + magnitude)};
}

}  // namespace

const char* name(ImageOpName op) { return kNames[size_t(op)]; }

ImageOpName parse_image_op(std::string_view text) {
  for (int i = 0; i < kImageOpNames; ++i)
    if (text == kNames[i]) return ImageOpName(i);
  fail(ErrorKind::usage, "'{}' is not an image operation", text);
}

ImageOp make_image_op(ImageOpName op, double magnitude, int height, int width) {
  switch (op) {
    case ImageOpName::identity:
      return {};
    case ImageOpName::shear_x:
      return affine({1, slope(magnitude), 0, 0, 1, 0});
    case ImageOpName::shear_y:
      return affine({1, 0, 0, slope(magnitude), 1, 0});
    case ImageOpName::translate_x:
      return affine({1, 0, -std::trunc(magnitude), 0, 1, 0});
    case ImageOpName::translate_y:
      return affine({1, 0, 0, 0, 1, -std::trunc(magnitude)});
    case ImageOpName::rotate:
      return rotation(magnitude, height, width);
    case ImageOpName::brightness:
      return with_factor(ImageOpKind::brightness, magnitude);
    case ImageOpName::color:
      return with_factor(ImageOpKind::color, magnitude);
    case ImageOpName::contrast:
      return with_factor(ImageOpKind::contrast, magnitude);
    case ImageOpName::sharpness:
      return with_factor(ImageOpKind::sharpness, magnitude);
    case ImageOpName::posterize:
      return {.kind = ImageOpKind::posterize, .level = int32_t(magnitude)};
    case ImageOpName::solarize:
      return {.kind = ImageOpKind::solarize, .level = int32_t(std::ceil(magnitude))};
    case ImageOpName::autocontrast:
      return {.kind = ImageOpKind::autocontrast};
    case ImageOpName::equalize:
      return {.kind = ImageOpKind::equalize};
    case ImageOpName::invert:
      return {.kind = ImageOpKind::invert};
  }
  return {};
}

}  // namespace plume::data
