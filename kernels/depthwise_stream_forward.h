// How depthwise_stream.cu marches down an image: with what comes behind the convolution and, for
// batch_norm_conv.cu, the norm in front of it.
#pragma once
#include "kernels/depthwise_stream_norm.h"

namespace plume::PLUME_KERNELS {

// What is done to the sums of two channels on their way out.
struct StreamedFinish {
  bool any;
  float scale[kStreamWidth] = {1, 1}, shift[kStreamWidth] = {};

  template <class T>
  __device__ StreamedFinish(const EpilogueView<T>& finish, int channel)
      : any(finish.scale || finish.shift || finish.residual || finish.activation != Activation::identity) {
    if (finish.scale) Pack<float, kStreamWidth>::load(finish.scale + channel).widen(scale);
    if (finish.shift) Pack<float, kStreamWidth>::load(finish.shift + channel).widen(shift);
  }
  // Stores a row of sums in y[at], of which `valid` exist, pixels `channels` apart, and calls stored(pair).
  template <class T, int kPixels, class Stored>
  __device__ __forceinline__ void store(const EpilogueView<T>& finish, float (&sums)[kPixels][kStreamWidth],
                                        int valid, unsigned channels, int64_t at, T* y,
                                        Stored&& stored) const {
    using Vector = Pack<T, kStreamWidth>;
    if (any) {
      float values[kPixels * kStreamWidth];
#pragma unroll
      for (int i = 0; i < kPixels * kStreamWidth; ++i) {
        const int c = i % kStreamWidth;
        values[i] = sums[i / kStreamWidth][c] * scale[c] + shift[c];
      }
      end_values(finish, values, [&](float(&residual)[kPixels * kStreamWidth]) {
        const T* from = finish.residual + at;
#pragma unroll
        for (int pixel = 0; pixel < kPixels; ++pixel) {
          float loaded[kStreamWidth] = {};
          if (pixel < valid) Vector::load(from).widen(loaded);
#pragma unroll
          for (int c = 0; c < kStreamWidth; ++c) residual[pixel * kStreamWidth + c] = loaded[c];
          go_on(from, channels);
        }
      });
#pragma unroll
      for (int i = 0; i < kPixels * kStreamWidth; ++i) sums[i / kStreamWidth][i % kStreamWidth] = values[i];
    }
    T* to = y + at;
#pragma unroll
    for (int pixel = 0; pixel < kPixels; ++pixel) {
      if (pixel < valid) {
        const Vector pair = Vector::narrow(sums[pixel]);
        pair.store(to);
        stored(pair);
      }
      go_on(to, channels);
    }
  }
};

// Blocks on a multiprocessor, as many as the compiler has registers for without spilling: 96 to 255 of them.
// A 5x5 row of 200 multiply-adds takes as long as the memory that is asked for the next one.
template <class T>
constexpr int stream_blocks(int filter, int stride, int width = kStrip) {
  if (filter == 3) return (sizeof(T) == 2 && width == kStrip ? 10 : 8) - 2 * (stride - 1);
  return sizeof(T) == 2 && stride == 1 && width == kStrip ? 6 : 4;
}

// Sums of what a thread stores, on their way to means [images, strips, channels]: as threads are numbered.
struct StreamedMeans {
  float* pooled;
  float factor;  // 1 / pixels of a plane
};

// y and, where kPools, its means.
template <class T, int kFilter, int kStride, int kWidth, bool kPools, class Before>
__device__ __forceinline__ void march_forward(const T* __restrict__ x, const Before& before,
                                              const T* __restrict__ w, const DepthwiseSizes& s,
                                              const StreamStrips& strips, const EpilogueView<T>& finish,
                                              T* __restrict__ y, bool turned, const StreamedMeans& means) {
  using Filter = StreamedFilter<kFilter, kStride, kWidth>;
  constexpr int kLive = Filter::kLive;                // rows of outputs in progress
  constexpr int kAhead = kFilter == 3 ? kStride : 1;  // rows of x on their way
  using Rows = StreamedRows<T, Filter::kColumns>;
  const int64_t item = int64_t(blockIdx.x) * kStreamThreads + threadIdx.x;
  if (item >= strips.items) return;
  const DepthwiseIndex at = strips.index(item);
  const int channel = at.pack * kStreamWidth, q = at.column * kWidth, p0 = at.row * strips.rows_per_strip;
  const int rows = min(strips.rows_per_strip, s.out_height - p0), steps = rows + kLive - 1;
  const int top = p0 * kStride - s.padding, inputs = (rows - 1) * kStride + kFilter;
  // Steps before and behind these meet no row of the image.
  const int begin = min(max(-top, 0) / kStride, kLive - 1);
  const int end = (min(inputs, s.height - top) + kStride - 1) / kStride;
  Rows input(x, at.image, s.height, s.width, s.channels, top + begin * kStride, q * kStride - s.padding,
             channel);
  typename Rows::Word ahead[kAhead][Filter::kColumns] = {};
#pragma unroll
  for (int a = 0; a < kAhead; ++a) input.fetch(begin * kStride + a < inputs, ahead[a]);
  float taps[kFilter * kFilter][kStreamWidth];
  load_taps(w, s.channels, channel, turned, taps);
  keep(taps);
  const StreamedFinish finished(finish, channel);
  const auto norm = before.of(channel);

  // Of the outputs in row p0 + step - j. What lies above and below the strip is not stored: to ask before
  // adding would cost more than to add. They move one place on with the first product of their row.
  float sums[kLive][kWidth][kStreamWidth] = {}, total[kStreamWidth] = {};
  int64_t out = ((int64_t(at.image) * s.out_height + p0) * s.out_width + q) * s.channels + channel;
  const auto store_last = [&](int step) {
    if (step < kLive - 1) return;
    finished.store(finish, sums[kLive - 1], s.out_width - q, unsigned(s.channels), out, y,
                   [&](const Pack<T, kStreamWidth>& pair) {
                     if constexpr (!kPools) return;
                     float stored[kStreamWidth];
                     pair.widen(stored);
#pragma unroll
                     for (int c = 0; c < kStreamWidth; ++c) total[c] += stored[c];
                   });
    out += int64_t(s.out_width) * s.channels;
  };
  int step = begin;
#pragma unroll 1
  for (; step < end; ++step) {
#pragma unroll
    for (int k = 0; k < kStride; ++k) {
      float values[Filter::kColumns][kStreamWidth];
      Rows::widen(ahead[k % kAhead], values);
      if (unsigned(top + step * kStride + k) < unsigned(s.height))
        norm.template apply<T>(input.inside(), values);
      input.fetch(step * kStride + k + kAhead < inputs, ahead[k % kAhead]);
      Filter::for_each_product(k, [&](int j, int column, int pixel, int tap, int c) {
        float& sum = sums[j][column][c];
        if (k == 0 && tap % kFilter == 0) sum = j > 0 ? sums[j - 1][column][c] : 0.0f;
        sum += values[pixel][c] * taps[tap][c];
      });
    }
    store_last(step);
  }
#pragma unroll 1
  for (; step < steps; ++step) {
    move_down(sums);
    store_last(step);
  }
  if constexpr (kPools) {
    Pack<float, kStreamWidth> mean;
#pragma unroll
    for (int c = 0; c < kStreamWidth; ++c) mean[c] = total[c] * means.factor;
    mean.store(means.pooled + item * kStreamWidth);
  }
}

// Of y's columns.
template <int kWidth>
StreamStrips forward_strips(const Shape& y, const Shape& w, const Conv2dParams& params,
                            int64_t most_down = INT64_MAX) {
  const int before = int(w[0] - 1) / params.stride;
  return {y[0], y[1], y[2], y[3], kWidth, before, 1, most_down};
}

// A strip of seven columns wants twice the registers, and as many threads less.
inline bool wide_strips_pay(const Shape& y, const Shape& w, const Conv2dParams& params) {
  return forward_strips<kWideStrip>(y, w, params).cost < forward_strips<kStrip>(y, w, params).cost;
}

}  // namespace plume::PLUME_KERNELS
