// The algorithm is Pillow's (Resample.c, described in its documentation as "convolution-based resampling"),
// whose rounding is part of what networks were trained on: coefficients in double, divided by their sum and
// rounded to 22 binary places; rows first, then columns, with bytes in between.
//
// Compiled without contraction into fused multiply-adds: they would move coefficients by their last digit.
#include "data/resize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "engine/core/error.h"

namespace plume::data {
namespace {

constexpr int kChannelsOfImage = 3;
constexpr int kBits = 32 - 8 - 2;  // of coefficients: 8 for the byte, 2 for negative lobes
constexpr int32_t kHalf = 1 << (kBits - 1);

double triangle(double x) {
  x = std::fabs(x);
  return x < 1 ? 1 - x : 0;
}

// Keys' cubic convolution with a = -1/2.
double cubic(double x) {
  constexpr double a = -0.5;
  x = std::fabs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

struct Filter {
  double (*weight)(double);
  double support;  // zero beyond
};
Filter filter_of(Interpolation interpolation) {
  return interpolation == Interpolation::bilinear ? Filter{triangle, 1} : Filter{cubic, 2};
}

// One output pixel of a line: the sum of weights[offset ...] times the `count` input pixels from `first`.
struct Tap {
  int64_t first;
  int64_t count;
  size_t offset;
};
struct Taps {
  std::vector<Tap> taps;
  std::vector<int32_t> weights;
  int64_t first() const { return taps.empty() ? 0 : taps.front().first; }
  int64_t end() const { return taps.empty() ? 0 : taps.back().first + taps.back().count; }
};

// For output pixels [from, to) of a line of `in` pixels that becomes one of `out`.
Taps make_taps(int64_t in, int64_t out, int64_t from, int64_t to, const Filter& filter) {
  const double scale = double(in) / double(out);
  const double stretch = std::max(scale, 1.0), shrink = 1.0 / stretch;
  const double support = filter.support * stretch;
  Taps result;
  std::vector<double> exact;
  for (int64_t i = from; i < to; ++i) {
    const double center = (double(i) + 0.5) * scale;
    const int64_t first = std::max<int64_t>(int64_t(center - support + 0.5), 0);
    const int64_t count = std::min<int64_t>(int64_t(center + support + 0.5), in) - first;
    result.taps.push_back({first, count, result.weights.size()});
    exact.clear();
    double sum = 0;
    for (int64_t k = 0; k < count; ++k) {
      exact.push_back(filter.weight((double(k + first) - center + 0.5) * shrink));
      sum += exact.back();
    }
    for (double w : exact) {
      if (sum != 0) w /= sum;
      result.weights.push_back(int32_t(w * double(1 << kBits) + (w < 0 ? -0.5 : 0.5)));
    }
  }
  return result;
}

uint8_t to_byte(int32_t sum) { return uint8_t(std::clamp(sum >> kBits, 0, 255)); }

// Rows [first_row, end_row) of the image, each as long as there are taps.
std::vector<uint8_t> resize_rows(const Image& image, const Taps& columns, int64_t first_row,
                                 int64_t end_row) {
  std::vector<uint8_t> out(size_t(end_row - first_row) * columns.taps.size() * kChannelsOfImage);
  uint8_t* to = out.data();
  for (int64_t y = first_row; y < end_row; ++y) {
    const uint8_t* row = image.pixels.data() + y * image.width * kChannelsOfImage;
    for (const Tap& tap : columns.taps) {
      const uint8_t* in = row + tap.first * kChannelsOfImage;
      const int32_t* weights = columns.weights.data() + tap.offset;
      int32_t r = kHalf, g = kHalf, b = kHalf;
      for (int64_t k = 0; k < tap.count; ++k, in += kChannelsOfImage) {
        r += in[0] * weights[k];
        g += in[1] * weights[k];
        b += in[2] * weights[k];
      }
      *to++ = to_byte(r);
      *to++ = to_byte(g);
      *to++ = to_byte(b);
    }
  }
  return out;
}

// `lines`: rows of `length` bytes, the first of which is the first that any tap wants.
std::vector<uint8_t> resize_columns(const std::vector<uint8_t>& lines, size_t length, const Taps& rows) {
  std::vector<uint8_t> out(rows.taps.size() * length);
  std::vector<int32_t> sums(length);
  uint8_t* to = out.data();
  for (const Tap& tap : rows.taps) {
    std::fill(sums.begin(), sums.end(), kHalf);
    for (int64_t k = 0; k < tap.count; ++k) {
      const uint8_t* line = lines.data() + size_t(tap.first + k - rows.first()) * length;
      const int32_t weight = rows.weights[tap.offset + size_t(k)];
      for (size_t i = 0; i < length; ++i) sums[i] += line[i] * weight;
    }
    for (size_t i = 0; i < length; ++i) *to++ = to_byte(sums[i]);
  }
  return out;
}

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

  const Filter filter = filter_of(interpolation);
  const Taps columns = make_taps(image.width, size.width, left, right, filter);
  const Taps rows = make_taps(image.height, size.height, top, bottom, filter);
  const size_t length = size_t(right - left) * kChannelsOfImage;
  const std::vector<uint8_t> pixels =
      resize_columns(resize_rows(image, columns, rows.first(), rows.end()), length, rows);
  for (int64_t y = top; y < bottom; ++y)
    std::memcpy(
        out.pixels.data() + size_t(y - window.top) * out_row + size_t(left - window.left) * kChannelsOfImage,
        pixels.data() + size_t(y - top) * length, length);
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

Window center_window(ImageSize size, int64_t crop) {
  PLUME_CHECK(crop >= 1 && crop <= kMostResizeSide, "crop: {} pixels", crop);
  return {center_offset(size.height, crop), center_offset(size.width, crop), {crop, crop}};
}

Image resize_and_crop(const Image& image, int64_t shorter, int64_t crop, Interpolation interpolation) {
  check_image(image);
  const ImageSize size = resized_to_shorter_side({image.height, image.width}, shorter);
  return resize(image, size, center_window(size, crop), interpolation);
}

}  // namespace plume::data
