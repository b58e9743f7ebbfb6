// Resizing and cropping with the very bytes that Pillow gives and torchvision's evaluation presets rest on.
#pragma once
#include <cstdint>
#include <string_view>

#include "data/images/image.h"
#include "engine/math/resample.h"

namespace plume::data {

enum class Interpolation : uint8_t { bilinear, bicubic };
const char* name(Interpolation interpolation);
ResampleFilter filter_of(Interpolation interpolation);
Interpolation parse_interpolation(std::string_view text);  // "bilinear", "bicubic"; throws usage

struct ImageSize {
  int64_t height = 0, width = 0;
  bool operator==(const ImageSize&) const = default;
};
// A part of an image, in pixels; it may reach beyond the image, where everything is black.
struct Window {
  int64_t top = 0, left = 0;
  ImageSize size;
};

// Longest side of an image that is resized: the sums are of 32 bits.
inline constexpr int64_t kMostResizeSide = 1 << 20;

// Image.resize((width, height), interpolation) of Pillow: antialiased, that is, when an image shrinks the
// filter is as wide as the pixels that fall into one. Throws usage for sizes below 1 and sides beyond
// kMostResizeSide.
Image resize(const Image& image, ImageSize size, Interpolation interpolation = Interpolation::bilinear);
// Only `window` of resize(image, size): the rest costs neither time nor memory, so that `size` may be as
// large as a panorama asks for.
Image resize(const Image& image, ImageSize size, const Window& window, Interpolation interpolation);

// torchvision's Resize(shorter): the shorter side becomes `shorter`, the other one
// floor(shorter * longer side / shorter side).
ImageSize resized_to_shorter_side(ImageSize size, int64_t shorter);
// torchvision's CenterCrop(crop): halves of a pixel are rounded to the even offset; a smaller image is framed
// in black.
Window center_window(ImageSize size, ImageSize crop);

}  // namespace plume::data
