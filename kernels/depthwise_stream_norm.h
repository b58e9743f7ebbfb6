// What a marching thread makes of two channels of x before it convolves them.
#pragma once
#include "kernels/batch_norm_view.h"
#include "kernels/depthwise_stream.h"

namespace plume::PLUME_KERNELS {

// Nothing: x is convolved as it is stored.
struct AsStored {
  struct OfPair {
    template <class T, int kColumns>
    __device__ void apply(int, float (&)[kColumns][kStreamWidth]) const {}
  };
  __device__ OfPair of(int) const { return {}; }
};

// Or a norm, rounded; the padding is of zeros behind it.
struct StreamedNorm {
  NormView norm;

  struct OfPair {
    NormOfChannels<kStreamWidth> channels;
    Activation activation;

    // `inside`: a bit per column that lies in the image.
    template <class T, int kColumns>
    __device__ __forceinline__ void apply(int inside, float (&values)[kColumns][kStreamWidth]) const {
      using Vector = Pack<T, kStreamWidth>;
      float flat[kColumns * kStreamWidth];
#pragma unroll
      for (int i = 0; i < kColumns * kStreamWidth; ++i) {
        const int c = i % kStreamWidth;
        flat[i] = values[i / kStreamWidth][c] * channels.scale[c] + channels.shift[c];
      }
      activate_all(activation, flat);
#pragma unroll
      for (int t = 0; t < kColumns; ++t) {
        const float pair[kStreamWidth] = {flat[t * kStreamWidth], flat[t * kStreamWidth + 1]};
        const auto stored = Vector::narrow(pair).word();
        Vector::widen(inside >> t & 1 ? stored : typename Vector::Word{}, values[t]);
      }
    }
  };
  __device__ __forceinline__ OfPair of(int channel) const {
    return {NormOfChannels<kStreamWidth>::load(norm, channel), norm.activation};
  }
};

}  // namespace plume::PLUME_KERNELS
