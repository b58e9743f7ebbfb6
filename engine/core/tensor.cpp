#include "engine/core/tensor.h"

#include "engine/core/context.h"
#include "engine/core/recording.h"

namespace plume {

Tensor Tensor::empty(const Shape& shape, DType dtype, Device device, const char* tag) {
  Tensor t;
  t.shape_ = shape;
  t.dtype_ = dtype;
  t.device_ = device;
  const DeviceBackend& b = backend(device);
  t.storage_ = std::shared_ptr<void>(b.allocate(t.bytes(), tag), b.release);
  return t;
}

Tensor Tensor::zeros(const Shape& shape, DType dtype, Device device, const char* tag) {
  Tensor t = empty(shape, dtype, device, tag);
  t.fill_zero();
  return t;
}

Tensor Tensor::from_bytes(const void* bytes, const Shape& shape, DType dtype, Device device) {
  refuse_while_recording("copy numbers of the host to the device");
  Tensor t = empty(shape, dtype, device);
  const Context& context = plume::context(device);
  backend(device).copy(t.raw(), bytes, t.bytes(), context.stream());
  backend(device).synchronize(context.stream());
  return t;
}

Tensor Tensor::adopt(std::shared_ptr<void> storage, const Shape& shape, DType dtype, Device device) {
  Tensor t;
  t.storage_ = std::move(storage);
  t.shape_ = shape;
  t.dtype_ = dtype;
  t.device_ = device;
  return t;
}

Tensor Tensor::to(Device device) const {
  if (device == device_ || !defined()) return *this;
  Tensor t = empty(shape_, dtype_, device);
  t.copy_from(*this);
  return t;
}

Tensor Tensor::clone(const char* tag) const {
  Tensor t = empty(shape_, dtype_, device_, tag);
  t.copy_from(*this);
  return t;
}

Tensor Tensor::reshape(const Shape& shape) const {
  PLUME_CHECK(shape.elements() == size(), "reshape: {} does not fit {}", to_string(*this), shape);
  Tensor t = *this;
  t.shape_ = shape;
  return t;
}

void Tensor::copy_from(const Tensor& from) {
  PLUME_CHECK(from.shape_ == shape_ && from.dtype_ == dtype_, "copy: {} into {}", to_string(from),
              to_string(*this));
  refuse_while_recording("copy to or from memory of another device", device_);
  refuse_while_recording("copy to or from memory of another device", from.device_);
  // The device that is not plain host memory does the copy.
  const Device worker = is_host(device_) ? from.device_ : device_;
  const Context& context = plume::context(worker);
  backend(worker).copy(raw(), from.raw(), bytes(), context.stream());
  if (is_host(device_) || is_host(from.device_)) backend(worker).synchronize(context.stream());
}

void Tensor::fill_zero() { backend(device_).fill(raw(), 0, bytes(), context(device_).stream()); }

void Tensor::count_writes() {
  static std::atomic<uint64_t> tensors{0};
  if (!writes_) writes_ = std::make_shared<std::atomic<uint64_t>>(++tensors << 32);
}

void Tensor::check_read() { refuse_while_recording("read values"); }

float Tensor::item() const {
  PLUME_CHECK(size() == 1, "item: {} has more than one element", to_string(*this));
  return to_vector<float>()[0];
}

std::string to_string(const Tensor& tensor) {
  if (!tensor.defined()) return "undefined tensor";
  return message("{} {} on {}", tensor.dtype(), tensor.shape(), tensor.device());
}

}  // namespace plume
