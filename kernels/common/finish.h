// A kernel's sums on their way to memory: EpilogueView (engine/math/epilogue.h) on a pack of neighbouring
// channels.
#pragma once
#include "engine/math/epilogue.h"
#include "kernels/common/vector.h"

namespace plume::PLUME_KERNELS {

// What finish(sums[i], channel + i, at + i) makes of N neighbouring sums. Scale, shift and residual come in
// accesses as wide as the pack's, where value by value each would be N requests: `channel` and `at` are
// multiples of N.
template <class T, int N>
__device__ __forceinline__ Pack<T, N> finish_pack(const EpilogueView<T>& finish, const float (&sums)[N],
                                                  int channel, int64_t at) {
  constexpr int kQuad = N > 4 ? 4 : N;  // f32 values of one access
  float values[N];
#pragma unroll
  for (int i = 0; i < N; ++i) values[i] = sums[i];
  if (finish.scale) {
#pragma unroll
    for (int part = 0; part < N; part += kQuad) {
      const auto scale = Pack<float, kQuad>::load(finish.scale + channel + part);
#pragma unroll
      for (int i = 0; i < kQuad; ++i) values[part + i] *= scale[i];
    }
  }
  if (finish.shift) {
#pragma unroll
    for (int part = 0; part < N; part += kQuad) {
      const auto shift = Pack<float, kQuad>::load(finish.shift + channel + part);
#pragma unroll
      for (int i = 0; i < kQuad; ++i) values[part + i] += shift[i];
    }
  }
  if (finish.residual) {
    const auto residual = Pack<T, N>::load(finish.residual + at);
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] += float(residual[i]);
  }
  Pack<T, N> result;
#pragma unroll
  for (int i = 0; i < N; ++i) result[i] = T(activate(finish.activation, values[i]));
  return result;
}

}  // namespace plume::PLUME_KERNELS
