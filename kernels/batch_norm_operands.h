// Operands of the matrix core that are a norm of x (batch_norm_view.h): x is copied as MatrixRows and
// MatrixLayers copy it, and made u within shared memory by the thread that copied it, as soon as it is there.
// A thread's units lie one below the other: it has kUnit channels of a step, or of the whole tile.
#pragma once
#include "kernels/batch_norm_view.h"
#include "kernels/common/matrix_operands.h"

namespace plume::PLUME_KERNELS {

// The units that a thread has copied of a tile, a few at once: all of these are read before any is written.
template <Activation kActivation, class T, class Plan, int kUnit>
__device__ __forceinline__ void normalise_as(char* tile, const NormOfChannels<kUnit>& norm) {
  using Unit = Pack<T, kUnit>;
  constexpr int kAtOnce = 32 / kUnit;  // 16 words
  static_assert(Plan::kPasses % kAtOnce == 0 && kAtOnce * Plan::kStep % 8 == 0);
  const int begin = Plan::begin();
#pragma unroll 1
  for (int first = 0; first < Plan::kPasses; first += kAtOnce, tile += kAtOnce * Plan::kPassBytes) {
    typename Unit::Word words[kAtOnce];
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k)
      words[k] = Unit::load(reinterpret_cast<const T*>(Plan::place(tile, begin, k))).word();
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      float values[kUnit];
      Unit::widen(words[k], values);
#pragma unroll
      for (int i = 0; i < kUnit; ++i)
        values[i] = activate(kActivation, values[i] * norm.scale[i] + norm.shift[i]);
      Unit::narrow(values).store(reinterpret_cast<T*>(Plan::place(tile, begin, k)));
    }
  }
}

// Those that fits_operand_of_norm() lets through.
template <class T, class Plan, int kUnit>
__device__ __forceinline__ void normalise_units(char* tile, const NormOfChannels<kUnit>& norm,
                                                Activation activation) {
  switch (activation) {
    case Activation::relu:
      return normalise_as<Activation::relu, T, Plan>(tile, norm);
    case Activation::silu:
      return normalise_as<Activation::silu, T, Plan>(tile, norm);
    case Activation::hardswish:
      return normalise_as<Activation::hardswish, T, Plan>(tile, norm);
    default:
      return normalise_as<Activation::identity, T, Plan>(tile, norm);
  }
}
inline bool fits_operand_of_norm(Activation activation) {
  return activation == Activation::identity || activation == Activation::relu ||
         activation == Activation::silu || activation == Activation::hardswish;
}

// Rows: pixels; depth: channels, whose numbers of the next step are on their way while this one is
// multiplied. Layers past the last stay zero, as they were copied; what is made of rows past the last nobody
// stores.
template <class T, int kUnit>
struct NormRows : MatrixRows<T, kCoreRows, kUnit> {
  using Rows = MatrixRows<T, kCoreRows, kUnit>;
  using Channels = NormOfChannels<kUnit>;
  NormView norm;
  int channel = 0;  // of what is normalised
  typename Channels::Words ahead = {};

  __device__ NormRows(const T* x, int pixels, int channels, const NormView& norm_)
      : Rows(x, pixels, channels), norm(norm_) {}
  __device__ void follow(int, int first) {
    channel = first + Rows::Plan::value();
    if (channel < this->depth) Channels::fetch(norm, channel, ahead);
  }
  __device__ void arrived(char* tile) {
    if (channel < this->depth)
      normalise_units<T, typename Rows::Plan>(tile, Channels::of(ahead), norm.activation);
    channel += kCoreDepth;
    if (channel < this->depth) Channels::fetch(norm, channel, ahead);
  }
};

// Rows: channels; depth: pixels. What is made of pixels past the last meets zeros.
template <class T, int kUnit>
struct NormLayers : MatrixLayers<T, kCoreRows, true, kUnit> {
  using Layers = MatrixLayers<T, kCoreRows, true, kUnit>;
  NormView norm;
  bool here = false;
  NormOfChannels<kUnit> channels = {};

  __device__ NormLayers(const T* x, int channels_, int pixels, const NormView& norm_)
      : Layers(x, channels_, pixels, true), norm(norm_) {}
  __device__ void follow(int row, int) {
    const int channel = row + Layers::Plan::value();
    here = channel < this->rows;
    if (here) channels = NormOfChannels<kUnit>::load(norm, channel);
  }
  __device__ void arrived(char* tile) const {
    if (here) normalise_units<T, typename Layers::Plan>(tile, channels, norm.activation);
  }
};

}  // namespace plume::PLUME_KERNELS
