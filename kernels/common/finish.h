// A kernel's sums on their way to memory: EpilogueView (engine/math/epilogue.h) on a pack of neighbouring
// channels.
#pragma once
#include <type_traits>

#include "engine/math/epilogue.h"
#include "kernels/common/vector.h"

namespace plume::PLUME_KERNELS {

// values[i] = finish(values[i], channel + i, at + i) for neighbouring values, where load(pointer, floats)
// reads as many of scale, shift or residual.
template <class T, int N, class Load>
__device__ __forceinline__ void finish_values(const EpilogueView<T>& finish, float (&values)[N], int channel,
                                              int64_t at, Load&& load) {
  float with[N];
  if (finish.scale) {
    load(finish.scale + channel, with);
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] *= with[i];
  }
  if (finish.shift) {
    load(finish.shift + channel, with);
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] += with[i];
  }
  if (finish.residual) {
    load(finish.residual + at, with);
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] += with[i];
  }
#pragma unroll
  for (int i = 0; i < N; ++i) values[i] = activate(finish.activation, values[i]);
}

// The same of a whole pack of sums. Scale, shift and residual come in accesses as wide as there are, where
// value by value each would be N requests: `channel` and `at` are multiples of N.
template <class T, int N>
__device__ __forceinline__ Pack<T, N> finish_pack(const EpilogueView<T>& finish, const float (&sums)[N],
                                                  int channel, int64_t at) {
  float values[N];
#pragma unroll
  for (int i = 0; i < N; ++i) values[i] = sums[i];
  finish_values(finish, values, channel, at, [](const auto* from, float(&to)[N]) {
    using Value = std::decay_t<decltype(*from)>;
    constexpr int kPack = N < kVectorWidth<Value> ? N : kVectorWidth<Value>;
#pragma unroll
    for (int part = 0; part < N; part += kPack) {
      const auto pack = Pack<Value, kPack>::load(from + part);
#pragma unroll
      for (int i = 0; i < kPack; ++i) to[part + i] = float(pack[i]);
    }
  });
  Pack<T, N> result;
#pragma unroll
  for (int i = 0; i < N; ++i) result[i] = T(values[i]);
  return result;
}

}  // namespace plume::PLUME_KERNELS
