// What the libraries ask of the tensors they are given.
#pragma once
#include <cstdint>
#include <initializer_list>

#include "engine/math/epilogue.h"

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

inline bool usable(const Epilogue& e) {
  for (const Tensor* t : {&e.scale, &e.shift, &e.residual})
    if (t->defined() && !is_aligned(*t)) return false;
  return true;
}

}  // namespace plume::cuda
