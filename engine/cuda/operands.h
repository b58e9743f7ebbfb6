// What the libraries ask of the tensors they are given.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <memory>

#include "engine/core/recording.h"
#include "engine/math/epilogue.h"
#include "engine/ops/cast.h"
#include "engine/ops/conv2d.h"

namespace plume::cuda {

// Both libraries want 16-byte aligned operands for their fast kernels; tensors are 256-byte aligned unless
// they lie over memory of somebody else.
inline bool is_aligned(const Tensor& t) { return reinterpret_cast<uintptr_t>(t.raw()) % 16 == 0; }

// Not empty, aligned, and all of one floating type.
inline bool usable(std::initializer_list<const Tensor*> tensors) {
  const DType type = (*tensors.begin())->dtype();
  for (const Tensor* t : tensors)
    if (t->size() == 0 || t->dtype() != type || !is_floating(type) || !is_aligned(*t)) return false;
  return true;
}

// A filter's gradient is of its operands' type or f32.
inline bool usable_gradient(const Tensor& x, const Tensor& dy, const Tensor& dw) {
  return usable({&x, &dy}) && usable({&dw}) && (dw.dtype() == dy.dtype() || dw.dtype() == DType::f32);
}

inline bool usable(const Epilogue& e) {
  for (const Tensor* t : {&e.scale, &e.shift, &e.residual})
    if (t->defined() && !is_aligned(*t)) return false;
  return true;
}

// Is the convolution a product of [N H W, C] and [C, K]?
inline bool is_product(const Tensor& w, const Conv2dParams& params) {
  return w.dim(1) == 1 && w.dim(2) == 1 && params.stride == 1 && params.padding == 0;
}

// What is kept of a constant filter (conv2d.h) and of the shift that goes with it.
struct KeptOperands {
  Tensor filter;              // turned over, for depthwise convolutions
  Tensor shift, short_shift;  // as given, and in the images' type
};
inline KeptOperands& kept_operands(PackedFilter& packed) {
  if (!packed.data) packed.data = std::make_shared<KeptOperands>();
  return *static_cast<KeptOperands*>(packed.data.get());
}
// Where the filter is constant (`packed` is not null) and the work is not only recorded for later.
inline KeptOperands* may_keep(PackedFilter* packed) {
  return packed && !is_recording() ? &kept_operands(*packed) : nullptr;
}

// The shift in the output's type, which both libraries want: rounded, as the output is.
inline Tensor shift_for(Context& context, const Tensor& shift, DType type, PackedFilter* packed) {
  if (!shift.defined() || type == DType::f32) return shift;
  if (packed) {
    const KeptOperands& kept = kept_operands(*packed);
    if (kept.short_shift.defined() && kept.shift.raw() == shift.raw() && kept.short_shift.dtype() == type)
      return kept.short_shift;
  }
  Tensor rounded = Tensor::empty(shift.shape(), type, shift.device(), "workspace");
  cast_forward(context, shift, rounded);
  if (KeptOperands* kept = may_keep(packed)) kept->shift = shift, kept->short_shift = rounded;
  return rounded;
}

}  // namespace plume::cuda
