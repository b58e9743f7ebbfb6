// One row of a max pool's output without the winners' places, for a width of vectors that the including file
// chooses: first the largest value of every column under the window, read as the input lies in memory, then
// the largest of a window's columns. A column serves all windows that it lies in: a 3x3 window with stride 2
// costs six loads and a bit, not nine.
//
// Included by files that are compiled for different processors, as depthwise_row.h is.
#pragma once
#include <cstdint>

namespace plume::cpu {

struct MaxPoolRow {
  const float* x;  // [rows, width, channels]: the input rows under the window that lie in the image
  int64_t rows, width, channels;
  int window, stride, padding;
  float* columns;  // workspace, width * channels values
  float* out;      // [out_width, channels]
  int64_t out_width;
};

// In the widest vectors that there are for at least eight channels.
void max_pool_row(const MaxPoolRow& row);
#if defined(__x86_64__)
void max_pool_row_avx512(const MaxPoolRow& row);  // for at least sixteen
#endif

// A larger value wins, and so does NaN, against which nothing else does.
template <class T>
inline T larger(const T& v, const T& best) {
  return v > best ? v : v == v ? best : v;
}

// For at least Lanes::kCount channels.
template <class Lanes>
void max_pool_row(const MaxPoolRow& r) {
  using Vector = typename Lanes::Vector;
  constexpr int64_t kCount = Lanes::kCount;
  const int64_t size = r.width * r.channels;
  for (int64_t first = 0; first < size; first += kCount) {
    const int64_t i = first + kCount <= size ? first : size - kCount;  // the last vector overlaps
    Vector best = Lanes::load(r.x + i);
    for (int64_t h = 1; h < r.rows; ++h) best = larger<Vector>(Lanes::load(r.x + h * size + i), best);
    Lanes::store(r.columns + i, best);
  }
  for (int64_t q = 0; q < r.out_width; ++q) {
    const int64_t left = q * r.stride - r.padding, right = left + r.window;
    const int64_t w0 = left > 0 ? left : 0, w1 = right < r.width ? right : r.width;
    for (int64_t first = 0; first < r.channels; first += kCount) {
      const int64_t c = first + kCount <= r.channels ? first : r.channels - kCount;
      Vector best = Lanes::load(r.columns + w0 * r.channels + c);
      for (int64_t w = w0 + 1; w < w1; ++w)
        best = larger<Vector>(Lanes::load(r.columns + w * r.channels + c), best);
      Lanes::store(r.out + q * r.channels + c, best);
    }
  }
}

}  // namespace plume::cpu
