// What operations that consist of several leave between these, for their tests.
#pragma once
#include <cmath>

#include "tests/support/array.h"

namespace plume::test {

// What lies between two steps may be stored in the dtype: its rounding, in units of float's.
inline double storage_error(DType dtype) {
  return dtype == DType::bf16 ? 0x1p16 : dtype == DType::f16 ? 0x1p13 : 0;
}
inline void store(Array& array, DType dtype) {
  for (Real& v : array.values) v.error += storage_error(dtype) * std::fabs(v.value);
}

// Means [N, C] as an operation takes them: with room for one part.
inline Tensor one_part(const Tensor& means) {
  return means.defined() ? means.reshape({means.dim(0), 1, means.dim(1)}) : Tensor();
}
// What squeeze_gate does, where the operation left more.
inline void add_parts(const Tensor& parts, Tensor& means) {
  if (!parts.defined() || parts.dim(1) == 1) return;
  const std::vector<float> values = parts.to_vector<float>();
  const int64_t channels = parts.dim(2), plane = parts.dim(1) * channels;
  std::vector<float> sums(size_t(means.size()));
  for (int64_t i = 0; i < parts.size(); ++i)
    sums[size_t(i / plane * channels + i % channels)] += values[size_t(i)];
  means.copy_from(Tensor::from(sums, means.shape(), means.device()));
}

}  // namespace plume::test
