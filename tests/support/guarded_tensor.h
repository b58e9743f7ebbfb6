// An output between two strips of guard bytes: a kernel that writes outside is found, and elements that it
// forgets to write stay NaN.
#pragma once
#include <string>

#include "engine/core/tensor.h"

namespace plume::test {

class GuardedTensor {
 public:
  // Poisoned: every byte 0xFF, which is NaN in all floating types and -1 in the integers.
  GuardedTensor(const Shape& shape, DType dtype, Device device);
  // Holding the values of `initial`.
  explicit GuardedTensor(const Tensor& initial);

  const Tensor& tensor() const { return tensor_; }
  // Says where a guard byte was overwritten; empty when none was.
  std::string overrun() const;

 private:
  Tensor block_;   // u8: guard, elements, guard
  Tensor tensor_;  // the elements
};

}  // namespace plume::test
