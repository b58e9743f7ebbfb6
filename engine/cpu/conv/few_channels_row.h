// One row of a convolution's output where the image has few channels (1 to 3: the first layer of a network),
// for a width of vectors that the including file chooses.
//
// Under one filter row lie S * C neighbouring values of an image row, and the next output pixel's begin
// stride * C values further on: a number known to the compiler, so that one pointer per filter row leads to
// all pixels of a tile. 16 vectors of sums (8 or 12 of eight lanes) stay in registers; per filter value a
// vector of columns for all pixels, and one broadcast value per pixel for all vectors. With sixteen columns
// that are 17 loads for 16 fused multiply-adds, of which two are done a cycle: loads and arithmetic balance.
//
// As channel_epilogue.h, plain pointers and templates over `Lanes` only.
#pragma once
#include <cstdint>

#include "engine/cpu/channel_epilogue.h"

namespace plume::cpu {

struct FewChannelsRow {
  const float* const* lines;  // [filter rows]: padded image rows, from the first output pixel's window on
  int filter_rows;
  int64_t depth;        // S * C
  const float* panels;  // of panel_gemm.h: [panel][filter row][depth][16]
  int64_t panel_size;
  int64_t columns;  // filters, a multiple of eight
  ChannelEpilogue epilogue;
  float* out;  // [out_width, columns]
  int64_t out_width;
};
using FewChannelsRowKernel = void(const FewChannelsRow&);

// What a tile may read behind a line's end, in values: they are multiplied and not stored.
inline constexpr int64_t kFewChannelsSlack = 16 * 6;

#if defined(__x86_64__)
FewChannelsRowKernel* few_channels_row_avx512(int64_t step);
#endif

// sums[pixel][vector] from pixel q and column c on.
template <class Lanes, int kStep, int kPixels, int kVectors>
inline void few_channels_sums(const FewChannelsRow& j, int64_t q, int64_t c, float* to) {
  using Vector = typename Lanes::Vector;
  constexpr int64_t kPanel = 16;
  Vector sums[kPixels][kVectors] = {};
  const float* w[kVectors];
#pragma GCC unroll 3
  for (int v = 0; v < kVectors; ++v) {
    const int64_t column = c + v * Lanes::kCount;
    w[v] = j.panels + column / kPanel * j.panel_size + column % kPanel;
  }
  int64_t at = 0;
  for (int r = 0; r < j.filter_rows; ++r) {
    const float* const x = j.lines[r] + q * kStep;
    for (int64_t d = 0; d < j.depth; ++d, at += kPanel) {
      Vector tap[kVectors];
#pragma GCC unroll 3
      for (int v = 0; v < kVectors; ++v) tap[v] = Lanes::load(w[v] + at);
#pragma GCC unroll 16
      for (int i = 0; i < kPixels; ++i) {
        const Vector value = x[i * kStep + d] - Vector{};
#pragma GCC unroll 3
        for (int v = 0; v < kVectors; ++v) sums[i][v] += value * tap[v];
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kPixels; ++i)
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) Lanes::store(to + (i * kVectors + v) * Lanes::kCount, sums[i][v]);
}

// One vector of columns of a tile: sums [pixels][width], columns from c on.
template <class Lanes, Activation kActivation>
inline void finish_few_channels(const FewChannelsRow& j, int64_t q, int64_t pixels, int64_t c, int64_t width,
                                const float* sums) {
  using Vector = typename Lanes::Vector;
  const Vector scale = j.epilogue.scale ? Lanes::load(j.epilogue.scale + c) : 1.0f - Vector{};
  const Vector shift = j.epilogue.shift ? Lanes::load(j.epilogue.shift + c) : Vector{};
  float* const out = j.out + q * j.columns + c;
  for (int64_t i = 0; i < pixels; ++i)
    Lanes::store(out + i * j.columns, activate(kActivation, Lanes::load(sums + i * width) * scale + shift));
}

template <class Lanes, int kStep, int kVectors>
inline void few_channels_columns(const FewChannelsRow& j, int64_t c) {
  constexpr int kPixels = Lanes::kCount == 16 ? 16 / kVectors : kVectors == 1 ? 8 : 4;
  constexpr int64_t kWidth = kVectors * Lanes::kCount;
  alignas(64) float sums[kPixels * kWidth];
  for (int64_t q = 0; q < j.out_width; q += kPixels) {
    few_channels_sums<Lanes, kStep, kPixels, kVectors>(j, q, c, sums);
    const int64_t pixels = j.out_width - q < kPixels ? j.out_width - q : kPixels;
    dispatch_activation(j.epilogue.activation, [&](auto kind) {
      for (int64_t k = 0; k < kWidth && c + k < j.columns; k += Lanes::kCount)
        if (c + k + Lanes::kCount <= j.columns)
          finish_few_channels<Lanes, kind>(j, q, pixels, c + k, kWidth, sums + k);
        else if constexpr (requires { typename Lanes::Half; })
          finish_few_channels<typename Lanes::Half, kind>(j, q, pixels, c + k, kWidth, sums + k);
    });
  }
}

template <class Lanes, int kStep>
void few_channels_row(const FewChannelsRow& j) {
  constexpr int64_t kLanes = Lanes::kCount;
  for (int64_t c = 0; c < j.columns;) {
    const int64_t left = (j.columns - c + kLanes - 1) / kLanes;
    if (kLanes == 8 && left == 3) {
      few_channels_columns<Lanes, kStep, 3>(j, c);
      c += 3 * kLanes;
    } else if (left >= 2) {
      few_channels_columns<Lanes, kStep, 2>(j, c);
      c += 2 * kLanes;
    } else {
      few_channels_columns<Lanes, kStep, 1>(j, c);
      c += kLanes;
    }
  }
}

// For stride * channels 1, 2, 3 or 6; null for others.
template <class Lanes>
FewChannelsRowKernel* few_channels_row_kernel(int64_t step) {
  switch (step) {
    case 1:
      return few_channels_row<Lanes, 1>;
    case 2:
      return few_channels_row<Lanes, 2>;
    case 3:
      return few_channels_row<Lanes, 3>;
    case 6:
      return few_channels_row<Lanes, 6>;
    default:
      return nullptr;
  }
}

}  // namespace plume::cpu
