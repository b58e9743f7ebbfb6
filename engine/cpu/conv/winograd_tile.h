// The transformations of Winograd's F(4x4, 3x3) for one tile (winograd.cpp), for a width of vectors
// that the including file chooses: B^T x B on the way in, A^T m A and the epilogue on the way out.
//
// Included by files that are compiled for different processors, as depthwise_row.h is.
#pragma once
#include <cstdint>

#include "engine/cpu/channel_epilogue.h"

namespace plume::cpu {

inline constexpr int kWinogradIn = 6, kWinogradOut = 4, kWinogradPositions = kWinogradIn * kWinogradIn;

// One tile of input.
struct WinogradInput {
  const float* image;  // [height, width, channels]
  int64_t height, width, channels;
  int64_t h, w;  // of the tile's first pixel; may lie outside
  float* v;      // [position] of `position_size` values, of which this tile's are the first `channels`
  int64_t position_size;
};

// One tile of output: some of its filters.
struct WinogradOutput {
  const float* m;  // [position] of `position_size` values, of which this tile's are the first `count`
  int64_t position_size, count;
  int rows, columns;  // of the tile that lie in the image
  float* out;         // the tile's first pixel; pixels of a row are `pitch` apart, rows `row_pitch`
  int64_t pitch, row_pitch;
  ChannelEpilogue epilogue;
};

#if defined(__x86_64__)
// For at least sixteen channels, and sixteen filters.
void winograd_input_avx512(const WinogradInput& tile);
void winograd_output_avx512(const WinogradOutput& tile);
#endif

// B^T x, for six values. Always inlined: in a call all vectors would go through memory.
template <class Vector>
[[gnu::always_inline]] inline void transform_input(const Vector (&x)[kWinogradIn], Vector (&v)[kWinogradIn]) {
  const Vector even = x[4] - 4.0f * x[2], odd = x[3] - 4.0f * x[1];
  const Vector even2 = x[4] - x[2], odd2 = 2.0f * (x[3] - x[1]);
  v[0] = 4.0f * x[0] - 5.0f * x[2] + x[4];
  v[1] = even + odd;
  v[2] = even - odd;
  v[3] = even2 + odd2;
  v[4] = even2 - odd2;
  v[5] = 4.0f * x[1] - 5.0f * x[3] + x[5];
}

// A^T m, for six values; inlined likewise.
template <class Vector>
[[gnu::always_inline]] inline void transform_output(const Vector (&m)[kWinogradIn],
                                                    Vector (&y)[kWinogradOut]) {
  const Vector sum1 = m[1] + m[2], difference1 = m[1] - m[2];
  const Vector sum2 = m[3] + m[4], difference2 = m[3] - m[4];
  y[0] = m[0] + sum1 + sum2;
  y[1] = difference1 + 2.0f * difference2;
  y[2] = sum1 + 4.0f * sum2;
  y[3] = difference1 + 8.0f * difference2 + m[5];
}

// kInside: all of the tile's pixels lie in the image.
template <class Lanes, bool kInside>
void winograd_input_channels(const WinogradInput& t) {
  using Vector = typename Lanes::Vector;
  constexpr int kIn = kWinogradIn;
  const float* first_pixel = t.image + (t.h * t.width + t.w) * t.channels;
  for (int64_t first = 0; first < t.channels; first += Lanes::kCount) {
    const int64_t c = first + Lanes::kCount <= t.channels ? first : t.channels - Lanes::kCount;
    Vector columns[kIn][kIn];  // [w][transformed row]
#pragma GCC unroll 6
    for (int j = 0; j < kIn; ++j) {
      Vector column[kIn];
#pragma GCC unroll 6
      for (int i = 0; i < kIn; ++i) {
        const int64_t h = t.h + i, w = t.w + j;
        const bool inside = kInside || (h >= 0 && h < t.height && w >= 0 && w < t.width);
        column[i] = inside ? Lanes::load(first_pixel + (i * t.width + j) * t.channels + c) : Vector{};
      }
      transform_input(column, columns[j]);
    }
    float* out = t.v + c;
#pragma GCC unroll 6
    for (int i = 0; i < kIn; ++i) {
      Vector row[kIn], transformed[kIn];
#pragma GCC unroll 6
      for (int j = 0; j < kIn; ++j) row[j] = columns[j][i];
      transform_input(row, transformed);
#pragma GCC unroll 6
      for (int j = 0; j < kIn; ++j, out += t.position_size) Lanes::store(out, transformed[j]);
    }
  }
}

// For at least Lanes::kCount channels.
template <class Lanes>
void winograd_input(const WinogradInput& t) {
  if (t.h >= 0 && t.w >= 0 && t.h + kWinogradIn <= t.height && t.w + kWinogradIn <= t.width)
    winograd_input_channels<Lanes, true>(t);
  else
    winograd_input_channels<Lanes, false>(t);
}

template <class Lanes, Activation kActivation>
void winograd_output_filters(const WinogradOutput& t) {
  using Vector = typename Lanes::Vector;
  constexpr int kIn = kWinogradIn, kOut = kWinogradOut;
  for (int64_t first = 0; first < t.count; first += Lanes::kCount) {
    const int64_t c = first + Lanes::kCount <= t.count ? first : t.count - Lanes::kCount;
    Vector partial[kIn][kOut];  // [column][output row]
#pragma GCC unroll 6
    for (int j = 0; j < kIn; ++j) {
      Vector column[kIn];
#pragma GCC unroll 6
      for (int i = 0; i < kIn; ++i) column[i] = Lanes::load(t.m + (i * kIn + j) * t.position_size + c);
      transform_output(column, partial[j]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < kOut; ++i) {
      if (i == t.rows) break;
      Vector row[kIn], out[kOut];
#pragma GCC unroll 6
      for (int j = 0; j < kIn; ++j) row[j] = partial[j][i];
      transform_output(row, out);
#pragma GCC unroll 4
      for (int j = 0; j < kOut; ++j) {
        if (j == t.columns) break;
        const int64_t at = i * t.row_pitch + j * t.pitch + c;
        finish_channels<Lanes, kActivation>(out[j], t.epilogue, c, at, t.out);
      }
    }
    if (t.epilogue.adds_last)
      for (int i = 0; i < t.rows; ++i)
        for (int j = 0; j < t.columns; ++j)
          add_last<Lanes>(t.epilogue, i * t.row_pitch + j * t.pitch + c, t.out);
  }
}

// For at least Lanes::kCount filters.
template <class Lanes>
void winograd_output(const WinogradOutput& t) {
  dispatch_activation(t.epilogue.activation, [&](auto kind) { winograd_output_filters<Lanes, kind>(t); });
}

}  // namespace plume::cpu
