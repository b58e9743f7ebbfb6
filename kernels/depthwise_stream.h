// What the streaming depthwise kernels share. A thread owns two neighbouring channels of a strip of four
// neighbouring columns and marches down the rows of the image: what lies under the strip is fetched once per
// row, a row ahead of its use, and kept as whole words until then.
//
// Threads are numbered [image, strip of rows, strip of columns, pair of channels], pairs first: a warp reads
// neighbouring channels, and where these end goes on with the next strip, so that no lane idles whatever the
// number of channels. All that is asked of it is to be even.
#pragma once
#include <algorithm>

#include "kernels/common/kernel.h"
#include "kernels/depthwise_sizes.h"

namespace plume::PLUME_KERNELS {

inline constexpr int kStreamWidth = 2;      // channels of a thread
inline constexpr int kStreamThreads = 128;  // of a block

// How an image [rows, columns, channels] is shared out: its rows in strips of `rows_per_strip`.
struct StreamStrips {
  int rows_per_strip, down, across, pairs;
  int64_t items;  // threads

  // Strips as long as still fill the GPU: the rows between two of them are read twice.
  StreamStrips(int64_t images, int64_t rows, int64_t columns, int64_t channels, int multiple = 1) {
    constexpr int64_t kEnough = 132 * 1024;  // threads
    across = int(ceil_div(columns, kStrip));
    pairs = int(channels / kStreamWidth);
    const int64_t per_row = std::max<int64_t>(images * across * pairs, 1);
    const int64_t wanted = std::clamp<int64_t>(ceil_div(kEnough, per_row), 1, ceil_div(rows, multiple));
    rows_per_strip = int(ceil_div(ceil_div(rows, wanted), multiple)) * multiple;
    down = int(ceil_div(rows, rows_per_strip));
    items = images * down * across * pairs;
  }
  simt::Launch launch(const Context& context) const {
    return {dim3(unsigned(ceil_div(items, kStreamThreads))), dim3(kStreamThreads), 0, stream_of(context)};
  }
  __device__ DepthwiseIndex index(int64_t item) const { return {item, down, across, pairs}; }
};

// `kColumns` neighbouring pixels of two channels, of an image of `height` rows.
template <class T, int kColumns>
class StreamedRows {
 public:
  using Vector = Pack<T, kStreamWidth>;
  using Word = typename Vector::Word;

  // From row `top` and column `left` on, either of which may lie outside the image.
  __device__ StreamedRows(const T* x, int image, int height, int width, int channels, int top, int left,
                          int channel)
      : next_(x + ((int64_t(image) * height + top) * width + left) * channels + channel),
        row_(top),
        height_(height),
        channels_(channels),
        pitch_(int64_t(width) * channels) {
#pragma unroll
    for (int t = 0; t < kColumns; ++t) inside_ |= unsigned(unsigned(left + t) < unsigned(width)) << t;
  }
  // The next row's words; zeros outside the image and where it is not `wanted`.
  __device__ __forceinline__ void fetch(bool wanted, Word (&words)[kColumns]) {
    const bool there = wanted && unsigned(row_) < unsigned(height_);
#pragma unroll
    for (int t = 0; t < kColumns; ++t) {
      words[t] = Word{};
      if (there && (inside_ >> t & 1u)) words[t] = Vector::load(next_ + t * channels_).word();
    }
    next_ += pitch_;
    ++row_;
  }
  __device__ static __forceinline__ void widen(const Word (&words)[kColumns],
                                               float (&values)[kColumns][kStreamWidth]) {
#pragma unroll
    for (int t = 0; t < kColumns; ++t) {
      const Vector pack = Vector::of(words[t]);
#pragma unroll
      for (int i = 0; i < kStreamWidth; ++i) values[t][i] = float(pack[i]);
    }
  }

 private:
  const T* next_;
  int row_, height_, channels_;
  int64_t pitch_;
  unsigned inside_ = 0;  // a bit per column
};

// Arrays of registers, one place on: the compiler knows every index.
template <class Value>
__device__ __forceinline__ void copy_registers(const Value& from, Value& to) {
  to = from;
}
template <class Value, int kCount>
__device__ __forceinline__ void copy_registers(const Value (&from)[kCount], Value (&to)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) copy_registers(from[i], to[i]);
}
__device__ __forceinline__ void clear(float& value) { value = 0.0f; }
template <class Value, int kCount>
__device__ __forceinline__ void clear(Value (&values)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) clear(values[i]);
}
// values[i] = values[i + 1]; the last one stays.
template <class Value, int kCount>
__device__ __forceinline__ void move_up(Value (&values)[kCount]) {
#pragma unroll
  for (int i = 0; i + 1 < kCount; ++i) copy_registers(values[i + 1], values[i]);
}
// values[i] = values[i - 1]; the first is cleared.
template <class Value, int kCount>
__device__ __forceinline__ void move_down(Value (&values)[kCount]) {
#pragma unroll
  for (int i = kCount - 1; i > 0; --i) copy_registers(values[i - 1], values[i]);
  clear(values[0]);
}

// What meets in a row of the input: row step * kStride + k has taps in kLive rows of outputs, of which number
// j is `step - j`.
template <int kFilter, int kStride>
struct StreamedFilter {
  static constexpr int kColumns = (kStrip - 1) * kStride + kFilter;  // of the input, under a strip
  static constexpr int kLive = (kFilter + kStride - 1) / kStride;

  // Calls f(j, column of the strip, column of the input, tap, channel) for each product.
  template <class F>
  __device__ static __forceinline__ void for_each_product(int k, F&& f) {
#pragma unroll
    for (int j = 0; j < kLive; ++j) {
      const int r = j * kStride + k;
      if (r >= kFilter) continue;
#pragma unroll
      for (int column = 0; column < kStrip; ++column)
#pragma unroll
        for (int t = 0; t < kFilter; ++t)
#pragma unroll
          for (int c = 0; c < kStreamWidth; ++c) f(j, column, column * kStride + t, r * kFilter + t, c);
    }
  }
};

// All taps of two channels.
template <class T, int kTaps>
__device__ __forceinline__ void load_taps(const T* w, int channels, int channel, bool turned,
                                          float (&taps)[kTaps][kStreamWidth]) {
#pragma unroll
  for (int t = 0; t < kTaps; ++t) {
    const auto pack =
        Pack<T, kStreamWidth>::load(w + int64_t(turned ? kTaps - 1 - t : t) * channels + channel);
#pragma unroll
    for (int i = 0; i < kStreamWidth; ++i) taps[t][i] = float(pack[i]);
  }
}

inline bool fits_stream(const Shape& w, const Conv2dParams& p) {
  return is_common_depthwise(w[0], w[1], p) && w[2] % kStreamWidth == 0;
}

}  // namespace plume::PLUME_KERNELS
