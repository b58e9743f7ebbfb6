// What the streaming depthwise kernels share. A thread owns two neighbouring channels of a strip of four or
// seven neighbouring columns and marches down the rows of the image: what lies under the strip is fetched
// once per row, a row ahead of its use, and kept as whole words until then.
//
// Threads are numbered [image, strip of rows, strip of columns, pair of channels], pairs first: a warp reads
// neighbouring channels, and where these end goes on with the next strip, so that no lane idles whatever the
// number of channels. All that is asked of it is to be even.
#pragma once
#include <algorithm>

#include "kernels/common/kernel.h"
#include "kernels/depthwise_sizes.h"

namespace plume::PLUME_KERNELS {

inline constexpr int kStreamWidth = 2;     // channels of a thread
inline constexpr int kStreamThreads = 64;  // of a block
inline constexpr int kWideStrip = 7;  // columns: no multiple of 7 is wasted, and images of 224 leave these

// How images [rows, columns, channels] are shared out among threads: in strips of `rows_per_strip` rows and
// `width` columns.
struct StreamStrips {
  int rows_per_strip, down, across, pairs;
  int64_t items;  // threads
  int64_t cost;   // about how long it takes, to compare widths by

  // `before`: rows that a strip marches through beside its own; strips begin at a `multiple` of rows, at most
  // `most_down` of them in an image. Few blocks leave multiprocessors idle, many short strips spend their
  // time on rows that their neighbours see as well.
  StreamStrips(int64_t images, int64_t rows, int64_t columns, int64_t channels, int width, int before,
               int multiple = 1, int64_t most_down = INT64_MAX)
      : across(int(ceil_div(columns, width))), pairs(int(channels / kStreamWidth)), cost(INT64_MAX) {
    constexpr int64_t kMultiprocessors = 132, kBlocksOfOne = 8;  // of a large GPU; that keep it busy
    for (int64_t strips = 1; strips <= std::min(ceil_div(rows, multiple), most_down); ++strips) {
      const int64_t length = ceil_div(ceil_div(rows, strips), multiple) * multiple;
      const int64_t threads = images * ceil_div(rows, length) * across * pairs;
      const int64_t blocks = ceil_div(ceil_div(threads, kStreamThreads), kMultiprocessors);
      const int64_t here = std::max(blocks, kBlocksOfOne) * (length + before) * (width + 1);
      if (here >= cost) continue;
      cost = here;
      rows_per_strip = int(length);
      down = int(ceil_div(rows, length));
      items = threads;
    }
  }
  simt::Launch launch(const Context& context) const {
    return {dim3(unsigned(ceil_div(items, kStreamThreads))), dim3(kStreamThreads), 0, stream_of(context)};
  }
  __device__ DepthwiseIndex index(int64_t item) const { return {item, down, across, pairs}; }
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
template <class Value>
__device__ __forceinline__ void clear(Value& value) {
  value = Value{};
}
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

// To the next pixel: an addition, where the compiler would keep the distance of each from the first one in a
// register and add that.
template <class T>
__device__ __forceinline__ void go_on(T*& pixel, unsigned channels) {
  pixel += channels;
  keep(pixel);
}

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
        channels_(unsigned(channels)),
        pitch_(int64_t(width) * channels) {
#pragma unroll
    for (int t = 0; t < kColumns; ++t) inside_ |= int(unsigned(left + t) < unsigned(width)) << t;
  }
  // The next row's words; zeros outside the image and where it is not `wanted`. Those beside the image are
  // left as they are, which is zero from the beginning.
  __device__ __forceinline__ void fetch(bool wanted, Word (&words)[kColumns]) {
    keep(inside_);
    if (wanted && unsigned(row_) < unsigned(height_)) {
      const T* pixel = next_;
#pragma unroll
      for (int t = 0; t < kColumns; ++t) {
        if (inside_ >> t & 1) words[t] = Vector::load(pixel).word();
        go_on(pixel, channels_);
      }
    } else {
      clear(words);
    }
    next_ += pitch_;
    ++row_;
  }
  __device__ int inside() const { return inside_; }
  __device__ static __forceinline__ void widen(const Word (&words)[kColumns],
                                               float (&values)[kColumns][kStreamWidth]) {
#pragma unroll
    for (int t = 0; t < kColumns; ++t) Vector::widen(words[t], values[t]);
    keep(values);  // the words' registers are free for what is fetched next
  }

 private:
  const T* next_;
  int row_, height_;
  unsigned channels_;
  int64_t pitch_;
  int inside_ = 0;  // a bit per column
};

// What meets in a row of the input: row step * kStride + k has taps in kLive rows of outputs, of which number
// j is `step - j`.
template <int kFilter, int kStride, int kWidth = kStrip>
struct StreamedFilter {
  static constexpr int kColumns = (kWidth - 1) * kStride + kFilter;  // of the input, under a strip
  static constexpr int kLive = (kFilter + kStride - 1) / kStride;

  // Calls f(j, column of the strip, column of the input, tap, channel) for each product, those of a sum one
  // after the other.
  template <class F>
  __device__ static __forceinline__ void for_each_product(int k, F&& f) {
#pragma unroll
    for (int j = kLive - 1; j >= 0; --j) {
      const int r = j * kStride + k;
      if (r >= kFilter) continue;
#pragma unroll
      for (int column = 0; column < kWidth; ++column)
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
    Pack<T, kStreamWidth>::load(w + int64_t(turned ? kTaps - 1 - t : t) * channels + channel).widen(taps[t]);
  }
}

inline bool fits_stream(const Shape& w, const Conv2dParams& p) {
  return is_common_depthwise(w[0], w[1], p) && w[2] % kStreamWidth == 0;
}

}  // namespace plume::PLUME_KERNELS
