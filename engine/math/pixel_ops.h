// Operations on 8-bit RGB images, equal to Pillow's byte for byte (Geometry.c, Blend.c, Filter.c,
// ImageOps.py, ImageEnhance.py of Pillow 9), written once for the loader's threads and for kernels. Nothing
// here depends on how a compiler contracts multiplications and additions.
#pragma once
#include <cstdint>

#include "engine/core/half.h"

namespace plume {

enum class ImageOpKind : int32_t {
  identity,
  affine,  // shear, translate, rotate: the nearest pixel, black outside
  // A table of 256 bytes per channel.
  brightness,
  contrast,
  posterize,
  solarize,
  autocontrast,
  equalize,
  invert,
  // By pixel and by neighbourhood.
  color,
  sharpness,
};

struct ImageOp {
  ImageOpKind kind = ImageOpKind::identity;
  float factor = 1;   // brightness, contrast, color, sharpness: 1 changes nothing
  int32_t level = 0;  // posterize: bits kept, 0..8; solarize: values from here on are inverted
  // affine: output pixel (y, x) shows input pixel (floor(row / 2^16), floor(column / 2^16)) with
  // column = affine[0] x + affine[1] y + affine[2], row = affine[3] x + affine[4] y + affine[5].
  int32_t affine[6] = {};
};

// Longest side of an image that is augmented: sums over its bytes fit 32 bits, as do affine coordinates.
inline constexpr int kMostAugmentSide = 4096;

PLUME_HD inline bool has_table(ImageOpKind kind) {
  return kind >= ImageOpKind::brightness && kind <= ImageOpKind::invert;
}
PLUME_HD inline bool needs_histogram(ImageOpKind kind) {
  return kind == ImageOpKind::autocontrast || kind == ImageOpKind::equalize;
}

// Pillow's conversion to "L" (ITU-R 601-2).
PLUME_HD inline int luminance(int r, int g, int b) {
  return (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16;
}

// from + factor (to - from) in float, each operation rounded, cut off to a byte: ImagingBlend.
PLUME_HD inline uint8_t blend(int from, int to, float factor) {
#if defined(__CUDA_ARCH__)
  const float value = __fadd_rn(float(from), __fmul_rn(factor, float(to - from)));
#else
  const float change = float(double(factor) * (to - from));  // the product is exact, the cast rounds it once
  const float value = float(from) + change;
#endif
  return value <= 0 ? uint8_t(0) : value >= 255 ? uint8_t(255) : uint8_t(int(value));
}

// a b + c in double, the product rounded first.
PLUME_HD inline double multiply_then_add(double a, double b, double c) {
#if defined(__CUDA_ARCH__)
  return __dadd_rn(__dmul_rn(a, b), c);
#else
  double product = a * b;
  asm("" : "+m"(product));  // keeps the compiler from fusing
  return product + c;
#endif
}

// The place of the input pixel that output pixel (y, x) shows, or -1 outside.
PLUME_HD inline int affine_source(const ImageOp& op, int y, int x, int height, int width) {
  const int column = (op.affine[0] * x + op.affine[1] * y + op.affine[2]) >> 16;
  const int row = (op.affine[3] * x + op.affine[4] * y + op.affine[5]) >> 16;
  const bool inside = unsigned(row) < unsigned(height) && unsigned(column) < unsigned(width);
  return inside ? row * width + column : -1;
}

// What an operation's table needs to know about a channel of the image.
struct ChannelSummary {
  int darkest = 255, brightest = 0;
  int step = 0;  // equalize_step()
};
PLUME_HD inline int equalize_step(int pixels, int brightest_pixels) {
  return (pixels - brightest_pixels) / 255;
}

// int(mean + 0.5) of the luminance over `pixels` pixels.
PLUME_HD inline int rounded_mean(uint32_t sum, int pixels) {
  return int((2 * uint64_t(sum) + uint64_t(pixels)) / (2 * uint64_t(pixels)));
}

// The table's entry for value v. `darker`: how many of the channel's values lie below v; `mean`: see
// rounded_mean.
PLUME_HD inline uint8_t table_entry(const ImageOp& op, int v, const ChannelSummary& s, int darker, int mean) {
  switch (op.kind) {
    case ImageOpKind::brightness:
      return blend(0, v, op.factor);
    case ImageOpKind::contrast:
      return blend(mean, v, op.factor);
    case ImageOpKind::posterize:
      return uint8_t(v & ~((1 << (8 - op.level)) - 1));
    case ImageOpKind::solarize:
      return uint8_t(v < op.level ? v : 255 - v);
    case ImageOpKind::invert:
      return uint8_t(255 - v);
    case ImageOpKind::autocontrast: {
      if (s.brightest <= s.darkest) return uint8_t(v);
      const double scale = 255.0 / (s.brightest - s.darkest);
      const int stretched = int(multiply_then_add(v, scale, -s.darkest * scale));
      return uint8_t(stretched < 0 ? 0 : stretched > 255 ? 255 : stretched);
    }
    case ImageOpKind::equalize: {
      if (s.brightest <= s.darkest || s.step == 0) return uint8_t(v);
      const int level = (s.step / 2 + darker) / s.step;
      return uint8_t(level > 255 ? 255 : level);
    }
    default:
      return uint8_t(v);
  }
}

// ImageFilter.SMOOTH of an inner pixel: (the nine neighbours + 4 times the centre) / 13, rounded. `at`: the
// channel's byte of the pixel, in an image of `row` bytes a line.
PLUME_HD inline int smoothed(const uint8_t* at, int row) {
  constexpr int kPixel = 3;
  int sum = 4 * at[0];
  for (int dy = -1; dy <= 1; ++dy)
    for (int dx = -1; dx <= 1; ++dx) sum += at[dy * row + dx * kPixel];
  return (2 * sum + 13) / 26;
}
PLUME_HD inline bool inner_pixel(int y, int x, int height, int width) {
  return y > 0 && x > 0 && y < height - 1 && x < width - 1;
}

}  // namespace plume
