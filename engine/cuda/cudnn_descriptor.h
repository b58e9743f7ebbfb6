// A cuDNN backend descriptor: attributes are set, then finalize() makes it usable.
#pragma once
#include <cudnn_graph.h>

#include <cstdint>
#include <string>
#include <utility>

#include "engine/cuda/check.h"

namespace plume::cuda {

class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(cudnnBackendDescriptorType_t type);
  ~Descriptor();
  Descriptor(Descriptor&& other) noexcept : raw_(std::exchange(other.raw_, nullptr)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(raw_, other.raw_);
    return *this;
  }

  cudnnBackendDescriptor_t raw() const { return raw_; }
  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
           const void* values);
  void set(cudnnBackendAttributeName_t name, const Descriptor& value) {
    set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value.raw_);
  }
  void finalize();
  // Empty, or why cuDNN does not support it, which is an answer. Any other failure throws like finalize().
  std::string refusal_to_finalize();
  // Reads up to `count` values; returns how many there are, which may be more.
  int64_t get(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
              void* values) const;

 private:
  cudnnBackendDescriptor_t raw_ = nullptr;
};

}  // namespace plume::cuda
