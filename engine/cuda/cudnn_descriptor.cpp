#include "engine/cuda/cudnn_descriptor.h"

namespace plume::cuda {

Descriptor::Descriptor(cudnnBackendDescriptorType_t type) {
  PLUME_CUDA(cudnnBackendCreateDescriptor, type, &raw_);
}

Descriptor::~Descriptor() {
  if (raw_) cudnnBackendDestroyDescriptor(raw_);
}

void Descriptor::set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
                     const void* values) {
  PLUME_CUDA(cudnnBackendSetAttribute, raw_, name, type, count, values);
}

void Descriptor::finalize() { PLUME_CUDA(cudnnBackendFinalize, raw_); }

std::string Descriptor::refusal_to_finalize() {
  const cudnnStatus_t status = cudnnBackendFinalize(raw_);
  if (CUDNN_STATUS_CATEGORY(status) == CUDNN_STATUS_NOT_SUPPORTED) return status_text(status);
  check("cudnnBackendFinalize", status);
  return {};
}

int64_t Descriptor::get(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
                        void* values) const {
  int64_t returned = 0;
  PLUME_CUDA(cudnnBackendGetAttribute, raw_, name, type, count, &returned, values);
  return returned;
}

}  // namespace plume::cuda
