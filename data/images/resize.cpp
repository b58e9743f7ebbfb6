#include "data/images/resize.h"

#include <algorithm>
#include <vector>

#include "engine/core/error.h"

namespace plume::data {
namespace {

constexpr int kChannelsOfImage = 3;

// CenterCrop's offset along one axis. Python's round() takes a half to the even neighbour.
int64_t center_offset(int64_t length, int64_t crop) {
  const int64_t spare = length - crop;
  if (spare < 0) return -((-spare) / 2);
  const int64_t half = spare / 2;
  return spare % 2 == 1 && half % 2 == 1 ? half + 1 : half;
}

void check_image(const Image& image) {
  PLUME_CHECK(image.height >= 1 && image.width >= 1, "resize: the image has {}x{} pixels", image.height,
              image.width);
  PLUME_CHECK(image.height <= kMostResizeSide && image.width <= kMostResizeSide,
              "resize: the image has {}x{} pixels, its sides may have {}", image.height, image.width,
              kMostResizeSide);
}

}  // namespace

ResampleFilter filter_of(Interpolation interpolation) {
  return interpolation == Interpolation::bilinear ? ResampleFilter::triangle : ResampleFilter::cubic;
}

const char* name(Interpolation interpolation) {
  return interpolation == Interpolation::bilinear ? "bilinear" : "bicubic";
}

Interpolation parse_interpolation(std::string_view text) {
  for (const Interpolation i : {Interpolation::bilinear, Interpolation::bicubic})
    if (text == name(i)) return i;
  fail(ErrorKind::usage, "'{}' is not an interpolation: bilinear or bicubic", text);
}

Image resize(const Image& image, ImageSize size, Interpolation interpolation) {
  return resize(image, size, Window{0, 0, size}, interpolation);
}

Image resize(const Image& image, ImageSize size, const Window& window, Interpolation interpolation) {
  check_image(image);
  PLUME_CHECK(size.height >= 1 && size.width >= 1, "resize: to {}x{} pixels", size.height, size.width);
  PLUME_CHECK(window.size.height >= 1 && window.size.width >= 1 && window.size.height <= kMostResizeSide &&
                  window.size.width <= kMostResizeSide,
              "resize: a window of {}x{} pixels", window.size.height, window.size.width);
  // What of the window lies on the image.
  const int64_t top = std::max<int64_t>(window.top, 0), left = std::max<int64_t>(window.left, 0);
  const int64_t bottom = std::min(window.top + window.size.height, size.height);
  const int64_t right = std::min(window.left + window.size.width, size.width);
  Image out{int(window.size.height), int(window.size.width), {}};
  const size_t out_row = size_t(window.size.width) * kChannelsOfImage;
  out.pixels.resize(size_t(window.size.height) * out_row);
  if (top >= bottom || left >= right) return out;

  const ResampleFilter filter = filter_of(interpolation);
  std::vector<int32_t> columns, rows;
  append_taps(columns, {image.width, size.width, left, right}, filter);
  append_taps(rows, {image.height, size.height, top, bottom}, filter);
  std::vector<uint8_t> scratch;
  resample(
      {image.pixels.data(),
       int64_t(image.width) * kChannelsOfImage,
       {columns.data()},
       {rows.data()},
       int(right - left),
       int(bottom - top)},
      out.pixels.data() + size_t(top - window.top) * out_row + size_t(left - window.left) * kChannelsOfImage,
      int64_t(out_row), scratch);
  return out;
}

ImageSize resized_to_shorter_side(ImageSize size, int64_t shorter) {
  PLUME_CHECK(size.height >= 1 && size.width >= 1 && shorter >= 1 && shorter <= kMostResizeSide,
              "resize: the shorter side of {}x{} pixels to {}", size.height, size.width, shorter);
  const auto longer = [&](int64_t from_long, int64_t from_short) {
    return int64_t(double(shorter * from_long) / double(from_short));
  };
  return size.width <= size.height ? ImageSize{longer(size.height, size.width), shorter}
                                   : ImageSize{shorter, longer(size.width, size.height)};
}

Window center_window(ImageSize size, ImageSize crop) {
  PLUME_CHECK(crop.height >= 1 && crop.width >= 1 && std::max(crop.height, crop.width) <= kMostResizeSide,
              "crop: {}x{} pixels", crop.height, crop.width);
  return {center_offset(size.height, crop.height), center_offset(size.width, crop.width), crop};
}

}  // namespace plume::data
