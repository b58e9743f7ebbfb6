#include "tests/support/guarded_tensor.h"

namespace plume::test {
namespace {

constexpr size_t kGuardBytes = 256;  // keeps the elements as aligned as a tensor's
constexpr uint8_t kGuard = 0xA5, kPoison = 0xFF;

}  // namespace

GuardedTensor::GuardedTensor(const Shape& shape, DType dtype, Device device) {
  const size_t bytes = size_t(shape.elements()) * size_of(dtype);
  std::vector<uint8_t> content(bytes + 2 * kGuardBytes, kGuard);
  std::fill_n(content.begin() + kGuardBytes, bytes, kPoison);
  block_ = Tensor::from(content, {int64_t(content.size())}, device);
  void* first = static_cast<uint8_t*>(block_.raw()) + kGuardBytes;
  tensor_ = Tensor::adopt({std::make_shared<Tensor>(block_), first}, shape, dtype, device);
}

GuardedTensor::GuardedTensor(const Tensor& initial)
    : GuardedTensor(initial.shape(), initial.dtype(), initial.device()) {
  tensor_.copy_from(initial);
}

std::string GuardedTensor::overrun() const {
  const std::vector<uint8_t> content = block_.to_vector<uint8_t>();
  const size_t bytes = content.size() - 2 * kGuardBytes;
  for (size_t i = 0; i < kGuardBytes; ++i) {
    if (content[kGuardBytes - 1 - i] != kGuard)
      return message("written {} bytes before the first element", i + 1);
    if (content[kGuardBytes + bytes + i] != kGuard)
      return message("written {} bytes behind the last element", i);
  }
  return {};
}

}  // namespace plume::test
