// Compiled without contraction into fused multiply-adds: they would move coefficients by their last digit.
#include "engine/math/resample.h"

#include <cmath>

namespace plume {
namespace {

constexpr int kChannels = 3;

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

// Rows [first, end) of the image, each as long as there are columns.
void resample_rows(const ResampleImage& image, int first, int end, uint8_t* to) {
  for (int y = first; y < end; ++y) {
    const uint8_t* row = image.pixels + y * image.stride;
    for (int x = 0; x < image.column_count; ++x) {
      const uint8_t* in = row + int64_t(image.columns.first(x)) * kChannels;
      const int32_t* weights = image.columns.weights(x);
      const int count = image.columns.count(x);
      int32_t r = kResampleHalf, g = kResampleHalf, b = kResampleHalf;
      for (int k = 0; k < count; ++k, in += kChannels) {
        r += in[0] * weights[k];
        g += in[1] * weights[k];
        b += in[2] * weights[k];
      }
      *to++ = resampled_byte(r);
      *to++ = resampled_byte(g);
      *to++ = resampled_byte(b);
    }
  }
}

}  // namespace

void append_taps(std::vector<int32_t>& table, const ResampleAxis& axis, ResampleFilter filter) {
  double (*const weight)(double) = filter == ResampleFilter::triangle ? triangle : cubic;
  const double radius = filter == ResampleFilter::triangle ? 1 : 2;  // of the filter; zero beyond
  const double scale = double(axis.in) / double(axis.out);
  const double stretch = std::max(scale, 1.0), shrink = 1.0 / stretch;
  const double support = radius * stretch;
  const size_t begin = table.size(), pixels = size_t(axis.to - axis.from);
  table.resize(begin + 3 * pixels);
  std::vector<double> exact;
  for (size_t i = 0; i < pixels; ++i) {
    const double center = (double(axis.from + int64_t(i)) + 0.5) * scale;
    const int64_t first = std::max<int64_t>(int64_t(center - support + 0.5), 0);
    const int64_t count = std::min<int64_t>(int64_t(center + support + 0.5), axis.in) - first;
    int32_t* tap = table.data() + begin + 3 * i;
    tap[0] = int32_t(first), tap[1] = int32_t(count), tap[2] = int32_t(table.size() - begin);
    exact.clear();
    double sum = 0;
    for (int64_t k = 0; k < count; ++k) {
      exact.push_back(weight((double(k + first) - center + 0.5) * shrink));
      sum += exact.back();
    }
    for (double w : exact) {
      if (sum != 0) w /= sum;
      table.push_back(int32_t(w * double(1 << kResampleBits) + (w < 0 ? -0.5 : 0.5)));
    }
  }
}

void resample(const ResampleImage& image, uint8_t* out, int64_t out_stride, std::vector<uint8_t>& scratch) {
  if (image.row_count == 0 || image.column_count == 0) return;
  const int last = image.row_count - 1;
  const int first = image.rows.first(0), end = image.rows.first(last) + image.rows.count(last);
  const size_t length = size_t(image.column_count) * kChannels;
  scratch.resize(size_t(end - first) * length);
  resample_rows(image, first, end, scratch.data());
  std::vector<int32_t> sums(length);
  for (int y = 0; y < image.row_count; ++y, out += out_stride) {
    std::fill(sums.begin(), sums.end(), kResampleHalf);
    const int32_t* weights = image.rows.weights(y);
    for (int k = 0; k < image.rows.count(y); ++k) {
      const uint8_t* line = scratch.data() + size_t(image.rows.first(y) + k - first) * length;
      const int32_t weight = weights[k];
      for (size_t i = 0; i < length; ++i) sums[i] += line[i] * weight;
    }
    for (size_t i = 0; i < length; ++i) out[i] = resampled_byte(sums[i]);
  }
}

}  // namespace plume
