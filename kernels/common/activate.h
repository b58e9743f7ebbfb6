// Activations of many values at once: which one is known only when the kernel runs, and asked once for all.
#pragma once
#include "engine/math/activation.h"
#include "kernels/simt/simt.h"

namespace plume::PLUME_KERNELS {
namespace detail {

template <Activation kActivation, int N>
__device__ __forceinline__ void activate_values(float (&values)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) values[i] = activate(kActivation, values[i]);
}

}  // namespace detail

template <int N>
__device__ __forceinline__ void activate_all(Activation activation, float (&values)[N]) {
  switch (activation) {
    case Activation::relu:
      return detail::activate_values<Activation::relu>(values);
    case Activation::sigmoid:
      return detail::activate_values<Activation::sigmoid>(values);
    case Activation::hardsigmoid:
      return detail::activate_values<Activation::hardsigmoid>(values);
    case Activation::silu:
      return detail::activate_values<Activation::silu>(values);
    case Activation::hardswish:
      return detail::activate_values<Activation::hardswish>(values);
    default:
      return;
  }
}

}  // namespace plume::PLUME_KERNELS
