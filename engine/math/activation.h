// Activations: value and slope written once, for every device.
#pragma once
#include <cstdint>

#include "engine/core/half.h"

namespace plume {

enum class Activation : uint8_t { identity, relu };

constexpr const char* name(Activation a) { return a == Activation::relu ? "relu" : "identity"; }

// act(x)
PLUME_HD inline float activate(Activation a, float x) {
  return a == Activation::relu ? (x > 0.0f ? x : 0.0f) : x;
}

// d act / dx, from the output y = act(x); possible for activations that can be inverted up to their slope.
PLUME_HD inline float slope_from_output(Activation a, float y) {
  return a == Activation::relu ? (y > 0.0f ? 1.0f : 0.0f) : 1.0f;
}

}  // namespace plume
