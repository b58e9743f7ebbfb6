// 16-bit tensors for variants that compute in f32.
#pragma once
#include "engine/core/tensor.h"

namespace plume::cpu {

// The f32 tensor with the same values: itself, or a widened copy. An undefined tensor stays undefined. oneDNN
// has no fast 16-bit convolutions or products below AVX-512; widening keeps the products and sums in float.
Tensor widened(const Tensor& tensor);
// Rounds f32 values to the dtype of `to`.
void narrow(const Tensor& from, Tensor& to);

// Runs f on `out` when that is f32, otherwise on an f32 stand-in that is rounded into `out` afterwards.
template <class F>
void through_f32(Tensor& out, const F& f) {
  if (out.dtype() == DType::f32) return f(out);
  Tensor wide = Tensor::empty(out.shape(), DType::f32, out.device(), "workspace");
  f(wide);
  narrow(wide, out);
}

}  // namespace plume::cpu
