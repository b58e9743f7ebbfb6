// A dense, contiguous array: a handle to storage plus shape, dtype and device.
//
// Copying a Tensor copies the handle. Activations are NHWC, filters KRSC.
#pragma once
#include <atomic>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "engine/core/device.h"
#include "engine/core/dtype.h"
#include "engine/core/error.h"
#include "engine/core/shape.h"

namespace plume {

class Tensor {
 public:
  Tensor() = default;
  // Contents undefined. `tag` groups the memory statistics ("activation", "gradient", "parameter", ...).
  static Tensor empty(const Shape& shape, DType dtype, Device device, const char* tag = "activation");
  static Tensor zeros(const Shape& shape, DType dtype, Device device, const char* tag = "activation");
  template <class T>
  static Tensor from(std::span<const T> values, const Shape& shape, Device device = Device::cpu) {
    PLUME_CHECK(int64_t(values.size()) == shape.elements(), "tensor: {} values for shape {}", values.size(),
                shape);
    return from_bytes(values.data(), shape, dtype_of<T>, device);
  }
  template <class T>
  static Tensor from(const std::vector<T>& values, const Shape& shape, Device device = Device::cpu) {
    return from(std::span<const T>(values), shape, device);
  }
  static Tensor from_bytes(const void* bytes, const Shape& shape, DType dtype, Device device);
  // Over memory that somebody else owns and `storage` keeps alive: large enough, and reachable by `device`.
  static Tensor adopt(std::shared_ptr<void> storage, const Shape& shape, DType dtype, Device device);

  bool defined() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  int64_t dim(int i) const { return shape_[i]; }
  int rank() const { return shape_.rank(); }
  int64_t size() const { return shape_.elements(); }
  size_t bytes() const { return size_t(size()) * size_of(dtype_); }
  DType dtype() const { return dtype_; }
  Device device() const { return device_; }

  void* raw() {
    if (writes_) writes_->fetch_add(1, std::memory_order_relaxed);
    return storage_.get();
  }
  const void* raw() const { return storage_.get(); }
  // Throws unless T is the element type.
  template <class T>
  T* data() {
    check_type(dtype_of<T>);
    return static_cast<T*>(raw());
  }
  template <class T>
  const T* data() const {
    check_type(dtype_of<T>);
    return static_cast<const T*>(raw());
  }

  Tensor to(Device device) const;  // itself when already there; waits until the copy is done
  Tensor clone(const char* tag = "activation") const;
  Tensor reshape(const Shape& shape) const;  // shares the storage; the number of elements must not change
  void copy_from(const Tensor& from);        // same shape and dtype, any devices
  void fill_zero();
  // True when no other handle shares the storage, so that it may be overwritten.
  bool unique() const { return storage_.use_count() == 1; }
  bool same_storage(const Tensor& other) const { return storage_ == other.storage_; }

  // From here on writes() changes whenever somebody is handed memory to write to, by this handle or by one
  // that is copied from it from now on: to a number that no other tensor ever has. Parameters count, so that
  // what is derived from them can be kept as long as it is right. 0: nobody counts.
  void count_writes();
  uint64_t writes() const { return writes_ ? writes_->load(std::memory_order_relaxed) : 0; }

  // The elements on the host, in order.
  template <class T>
  std::vector<T> to_vector() const {
    check_read();
    const Tensor host = is_host(device_) ? *this : to(Device::cpu);
    const T* first = host.data<T>();
    return std::vector<T>(first, first + size());
  }
  // The only element of a one-element f32 tensor.
  float item() const;

 private:
  void check_type(DType t) const { PLUME_CHECK(t == dtype_, "tensor: holds {}, asked for {}", dtype_, t); }

  static void check_read();  // throws while a step is recorded

  std::shared_ptr<void> storage_;
  std::shared_ptr<std::atomic<uint64_t>> writes_;  // null: nobody asks
  Shape shape_;
  DType dtype_ = DType::f32;
  Device device_ = Device::cpu;
};

// "f32 [3, 7, 7, 64] on cpu", for error messages.
std::string to_string(const Tensor& tensor);

inline Tensor empty(const Shape& shape, const Tensor& like) {
  return Tensor::empty(shape, like.dtype(), like.device());
}
inline Tensor empty_like(const Tensor& like) { return empty(like.shape(), like); }

}  // namespace plume
