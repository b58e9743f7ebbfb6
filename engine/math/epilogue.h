// What a convolution or linear layer does to its accumulator before it is stored, as data:
//   y = activation(accumulator * scale[k] + shift[k] + residual), or, with residual_last,
//   y = activation(accumulator * scale[k] + shift[k]) + residual
// Where y has 16 bits, cuDNN rounds the shift to its type first.
#pragma once
#include "engine/core/tensor.h"
#include "engine/math/activation.h"

namespace plume {

struct Epilogue {
  Tensor scale;     // f32 [K], or undefined for 1
  Tensor shift;     // f32 [K]: a bias or a folded batch norm; undefined for 0
  Tensor residual;  // like the output, or undefined
  Activation activation = Activation::identity;
  bool residual_last = false;  // added behind the activation, not before it

  bool adds_last() const { return residual_last && residual.defined() && activation != Activation::identity; }
  bool empty() const {
    return !scale.defined() && !shift.defined() && !residual.defined() && activation == Activation::identity;
  }
  template <class Self, class F>
  static void for_each_tensor(Self& self, F&& f) {
    f(self.scale);
    f(self.shift);
    f(self.residual);
  }
};

// The same with raw pointers, for kernels and loops. Null pointers stand for absent parts.
template <class T>
struct EpilogueView {
  const float* scale = nullptr;
  const float* shift = nullptr;
  const T* residual = nullptr;
  Activation activation = Activation::identity;
  bool adds_last = false;

  EpilogueView() = default;
  explicit EpilogueView(const Epilogue& e)
      : scale(e.scale.defined() ? e.scale.data<float>() : nullptr),
        shift(e.shift.defined() ? e.shift.data<float>() : nullptr),
        residual(e.residual.defined() ? e.residual.data<T>() : nullptr),
        activation(e.activation),
        adds_last(e.adds_last()) {}

  // `channel` is the output channel, `index` the element's place in the output.
  PLUME_HD float operator()(float accumulator, int channel, int64_t index) const {
    float v = accumulator;
    if (scale) v *= scale[channel];
    if (shift) v += shift[channel];
    const float more = residual ? float(residual[index]) : 0.0f;
    return adds_last ? activate(activation, v) + more : activate(activation, v + more);
  }
};

}  // namespace plume
