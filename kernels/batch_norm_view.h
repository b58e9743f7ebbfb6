// A norm that is made of x as a convolution reads it (batch_norm_conv.h in engine/ops): by threads that march
// down images, and by those that copy operands of the matrix core.
#pragma once
#include "engine/ops/batch_norm_conv.h"
#include "kernels/common/finish.h"

namespace plume::PLUME_KERNELS {

// u = activation(x * scale + shift), rounded to the type of x as if it had been stored. What a shift loses
// where the mean is large beside the deviation is far below the digits of a 16-bit x.
struct NormView {
  const float *gamma, *beta, *mean, *inv_std;
  Activation activation;

  explicit NormView(const KnownNorm& norm)
      : gamma(norm.gamma.data<float>()),
        beta(norm.beta.data<float>()),
        mean(norm.mean.data<float>()),
        inv_std(norm.inv_std.data<float>()),
        activation(norm.activation) {}
};

// Of N neighbouring channels.
template <int N>
struct NormOfChannels {
  static constexpr int kPack = N < 4 ? N : 4;
  using Floats = Pack<float, kPack>;
  using Words = typename Floats::Word[4][N / kPack];
  float scale[N], shift[N];

  // As they lie in memory, to be asked for ahead of their use.
  __device__ __forceinline__ static void fetch(const NormView& norm, int channel, Words& words) {
    const float* const from[4] = {norm.gamma, norm.inv_std, norm.mean, norm.beta};
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int part = 0; part < N / kPack; ++part)
        words[i][part] = Floats::load(from[i] + channel + part * kPack).word();
  }
  __device__ __forceinline__ static NormOfChannels of(const Words& words) {
    NormOfChannels all;
#pragma unroll
    for (int part = 0; part < N / kPack; ++part) {
      float read[4][kPack];
#pragma unroll
      for (int i = 0; i < 4; ++i) Floats::widen(words[i][part], read[i]);
#pragma unroll
      for (int i = 0; i < kPack; ++i) {
        const int c = part * kPack + i;
        all.scale[c] = read[0][i] * read[1][i];
        all.shift[c] = read[3][i] - read[2][i] * all.scale[c];
      }
    }
    return all;
  }
  __device__ __forceinline__ static NormOfChannels load(const NormView& norm, int channel) {
    Words words;
    fetch(norm, channel, words);
    return of(words);
  }
};

// The statistics of x alone, in 16 bits: mean, inv_std and the running ones.
void norm_statistics(Context& context, const Tensor& x, const BatchNormParams& params, Tensor& mean,
                     Tensor& inv_std, Tensor& running_mean, Tensor& running_var);

// The two passes of batch_norm.backward, for kernels that have one of them: the sums over x's rows of the
// gradient behind the norm, dy + dy_more, which may be undefined; and dx of them.
void norm_gradient_sums(Context& context, const Tensor& x, const KnownNorm& norm, const Tensor& dy,
                        const Tensor& dy_more, Tensor& dgamma, Tensor& dbeta);
void norm_input_gradient(Context& context, const Tensor& x, const KnownNorm& norm, const Tensor& dy,
                         const Tensor& dgamma, const Tensor& dbeta, Tensor& dx);

// Below some 10 MB a norm alone, which is one launch, too, finds x in the L2 and leaves u there, and what is
// issued once more outweighs what is not moved.
inline bool norm_pays(const Tensor& x) {
  constexpr int64_t kLeastBytes = 10 << 20;
  return x.bytes() >= kLeastBytes;
}

}  // namespace plume::PLUME_KERNELS
