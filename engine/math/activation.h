// Activations: value and slope written once, for every device.
//
//   relu         max(x, 0)
//   sigmoid      1 / (1 + exp(-x))
//   hardsigmoid  clamp(x / 6 + 1/2, 0, 1)
//   silu         x sigmoid(x)              Elfwing et al. 2017, also "swish"
//   hardswish    x hardsigmoid(x)          Howard et al. 2019 (MobileNetV3)
#pragma once
#include <cmath>
#include <cstdint>

#include "engine/core/half.h"

namespace plume {

enum class Activation : uint8_t { identity, relu, sigmoid, hardsigmoid, silu, hardswish };

constexpr const char* name(Activation a) {
  constexpr const char* kNames[] = {"identity", "relu", "sigmoid", "hardsigmoid", "silu", "hardswish"};
  return kNames[uint8_t(a)];
}

PLUME_HD inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
PLUME_HD inline float hardsigmoid(float x) {
  const float line = x * (1.0f / 6.0f) + 0.5f;
  return line > 0.0f ? (line < 1.0f ? line : 1.0f) : 0.0f;
}

// act(x)
PLUME_HD inline float activate(Activation a, float x) {
  switch (a) {
    case Activation::relu:
      return x > 0.0f ? x : 0.0f;
    case Activation::sigmoid:
      return sigmoid(x);
    case Activation::hardsigmoid:
      return hardsigmoid(x);
    case Activation::silu:
      return x * sigmoid(x);
    case Activation::hardswish:
      return x * hardsigmoid(x);
    default:
      return x;
  }
}

// d act / dx from the input. At the corners as PyTorch: relu, hardsigmoid 0; hardswish the middle's slope.
PLUME_HD inline float slope_from_input(Activation a, float x) {
  switch (a) {
    case Activation::relu:
      return x > 0.0f ? 1.0f : 0.0f;
    case Activation::sigmoid: {
      const float s = sigmoid(x);
      return s * (1.0f - s);
    }
    case Activation::hardsigmoid:
      return x > -3.0f && x < 3.0f ? 1.0f / 6.0f : 0.0f;
    case Activation::silu: {
      const float s = sigmoid(x);
      return s * (1.0f + x * (1.0f - s));
    }
    case Activation::hardswish:
      return x < -3.0f ? 0.0f : x <= 3.0f ? x * (1.0f / 3.0f) + 0.5f : 1.0f;
    default:
      return 1.0f;
  }
}

// True when the slope cannot be told from the output, because two inputs share one.
constexpr bool slope_needs_input(Activation a) { return a == Activation::silu || a == Activation::hardswish; }

// d act / dx from the output y = act(x), for the others: nothing but y need be kept for the gradient.
PLUME_HD inline float slope_from_output(Activation a, float y) {
  switch (a) {
    case Activation::relu:
      return y > 0.0f ? 1.0f : 0.0f;
    case Activation::sigmoid:
      return y * (1.0f - y);
    case Activation::hardsigmoid:
      return y > 0.0f && y < 1.0f ? 1.0f / 6.0f : 0.0f;
    default:
      return 1.0f;
  }
}

}  // namespace plume
