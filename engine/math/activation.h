// Activations: value and slope written once, for every device.
//
//   relu         max(x, 0)
//   sigmoid      1 / (1 + exp(-x))
//   hardsigmoid  clamp(x / 6 + 1/2, 0, 1)
//   silu         x sigmoid(x)              Elfwing et al. 2017, also "swish"
//   hardswish    x hardsigmoid(x)          Howard et al. 2019 (MobileNetV3)
//
// NaN stays NaN, as in PyTorch: comparisons are written so that it fails them.
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "engine/core/half.h"

namespace plume {

enum class Activation : uint8_t { identity, relu, sigmoid, hardsigmoid, silu, hardswish };

constexpr const char* name(Activation a) {
  constexpr const char* kNames[] = {"identity", "relu", "sigmoid", "hardsigmoid", "silu", "hardswish"};
  return kNames[uint8_t(a)];
}

// What follows takes a float, or on the host a vector of floats (GCC's vector extension), lane by lane.

// Whole numbers as wide as the lanes.
template <class T>
struct BitsOf {
  using type = decltype(T{} < T{});
};
template <>
struct BitsOf<float> {
  using type = int32_t;
};

// exp(x) to about one unit in the last place; outside [-87, 88] as at the ends. On the host without branches
// or calls, so that loops over it become vectors: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2].
template <class T>
PLUME_HD inline T exponential(T x) {
#ifdef __CUDA_ARCH__
  return expf(x);
#else
  // Adding 1.5 * 2^23 rounds to a whole number, which then is the sum's low bits. NaN stays NaN.
  constexpr float kShifter = 12582912.0f;
  const T low = T{} - 87.0f, high = T{} + 88.0f;
  const T v = x < low ? low : x > high ? high : x;
  const T shifted = v * 1.44269504f + kShifter, n = shifted - kShifter;
  // ln 2 in two parts, the first exact when multiplied by n
  const T r = (v - n * 0.693359375f) - n * -2.12194440e-4f;
  T p = r * (1.0f / 5040) + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r * r + r + 1.0f;
  using Bits = typename BitsOf<T>::type;
  return p * std::bit_cast<T>((std::bit_cast<Bits>(shifted) + 127) << 23);
#endif
}

// On a GPU 2^(-x log2(e)) and a reciprocal of its special function unit, which are within two units in the
// last place each: 2^-22 of the result, |x| 2^-24 far out. Four instructions; expf and a division are
// twenty.
// A kernel that has no registers for several at once defines PLUME_EXACT_ACTIVATIONS.
template <class T>
PLUME_HD inline T sigmoid(T x) {
#if defined(__CUDA_ARCH__) && !defined(PLUME_EXACT_ACTIVATIONS)
  float power, result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x * -1.44269504f));
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(1.0f + power));
  return result;
#else
  return 1.0f / (1.0f + exponential(-x));
#endif
}
template <class T>
PLUME_HD inline T hardsigmoid(T x) {
  const T line = x * (1.0f / 6.0f) + 0.5f, one = T{} + 1.0f;
  return line <= 0.0f ? T{} : line >= one ? one : line;
}

// act(x)
template <class T>
PLUME_HD inline T activate(Activation a, T x) {
  switch (a) {
    case Activation::relu:
      return x <= 0.0f ? T{} : x;
    case Activation::sigmoid:
      return sigmoid(x);
    case Activation::hardsigmoid:
      return hardsigmoid(x);
    case Activation::silu:
      return x * sigmoid(x);
    case Activation::hardswish:
#if defined(__CUDA_ARCH__) && !defined(PLUME_EXACT_ACTIVATIONS)
      return x * __saturatef(x * (1.0f / 6.0f) + 0.5f);  // NaN is 0 there, and NaN again here
#else
      return x * hardsigmoid(x);
#endif
    default:
      return x;
  }
}

// d act / dx from the input. At the corners as PyTorch: relu, hardsigmoid 0; hardswish the middle's slope.
template <class T>
PLUME_HD inline T slope_from_input(Activation a, T x) {
  const T one = T{} + 1.0f;
  switch (a) {
    case Activation::relu:
      return x <= 0.0f ? T{} : one;
    case Activation::sigmoid: {
      const T s = sigmoid(x);
      return s * (1.0f - s);
    }
    case Activation::hardsigmoid:
      return (x > -3.0f) & (x < 3.0f) ? T{} + 1.0f / 6.0f : T{};
    case Activation::silu: {
      const T s = sigmoid(x);
      return s * (1.0f + x * (1.0f - s));
    }
    case Activation::hardswish:
      return x < -3.0f ? T{} : x <= 3.0f ? x * (1.0f / 3.0f) + 0.5f : one;
    default:
      return one;
  }
}

// True when the slope cannot be told from the output: two inputs share one, or (sigmoid near 1) rounding the
// output to 16 bits has cost the digits that matter.
constexpr bool slope_needs_input(Activation a) {
  return a == Activation::sigmoid || a == Activation::silu || a == Activation::hardswish;
}

// d act / dx from the output y = act(x), for the others: where the input is lost nothing but y need be kept
// for the gradient.
template <class T>
PLUME_HD inline T slope_from_output(Activation a, T y) {
  const T one = T{} + 1.0f;
  switch (a) {
    case Activation::relu:
      return y <= 0.0f ? T{} : one;
    case Activation::hardsigmoid:
      return (y > 0.0f) & (y < one) ? T{} + 1.0f / 6.0f : T{};
    default:
      return one;
  }
}

// The gradient before the activation from the gradient dy after it. An infinite gradient does not pass a
// closed gate.
template <class T>
PLUME_HD inline T through_slope(T dy, T slope) {
  return slope == 0.0f ? T{} : dy * slope;
}

// Calls f with the activation as a compile-time constant, for loops that are to become vectors:
// dispatch_activation(a, [&](auto kind) { ... activate(kind, v) ... });
template <class F>
decltype(auto) dispatch_activation(Activation a, F&& f) {
  switch (a) {
    case Activation::relu:
      return f(std::integral_constant<Activation, Activation::relu>{});
    case Activation::sigmoid:
      return f(std::integral_constant<Activation, Activation::sigmoid>{});
    case Activation::hardsigmoid:
      return f(std::integral_constant<Activation, Activation::hardsigmoid>{});
    case Activation::silu:
      return f(std::integral_constant<Activation, Activation::silu>{});
    case Activation::hardswish:
      return f(std::integral_constant<Activation, Activation::hardswish>{});
    default:
      return f(std::integral_constant<Activation, Activation::identity>{});
  }
}

}  // namespace plume
