#include "engine/cuda/handles.h"

#include "engine/cuda/check.h"
#include "engine/memory/allocator.h"

namespace plume::cuda {

std::string status_text(cudnnStatus_t status) {
  char detail[256] = "";
  cudnnGetLastErrorString(detail, sizeof detail);
  std::string line = detail;
  for (char& c : line)
    if (c == '\n') c = ' ';
  return message("{}{}{}", cudnnGetErrorString(status), line.empty() ? "" : ": ", line);
}

void check(const char* call, cudnnStatus_t status) {
  if (status != CUDNN_STATUS_SUCCESS) fail(ErrorKind::resource, "{}: {}", call, status_text(status));
}

cudnnHandle_t cudnn_handle(const Context& context) {
  static const cudnnHandle_t handle = [] {
    cudnnHandle_t created = nullptr;
    PLUME_CUDA(cudnnCreate, &created);
    return created;
  }();
  static cudaStream_t current = nullptr;
  if (current != stream_of(context)) {
    PLUME_CUDA(cudnnSetStream, handle, stream_of(context));
    current = stream_of(context);
  }
  return handle;
}

cublasLtHandle_t cublaslt_handle() {
  static const cublasLtHandle_t handle = [] {
    cublasLtHandle_t created = nullptr;
    PLUME_CUDA(cublasLtCreate, &created);
    return created;
  }();
  return handle;
}

Scratch::Scratch(size_t bytes) {
  try {
    if (bytes) data_ = device_allocator(Device::cuda).allocate(bytes, "workspace");
  } catch (const Error& error) {
    throw OutOfScratch(error.kind(), error.what());
  }
}

Scratch::~Scratch() { device_allocator(Device::cuda).release(data_); }

cudnnDataType_t cudnn_type(DType type) {
  return type == DType::f16 ? CUDNN_DATA_HALF : type == DType::bf16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
}

cudaDataType_t cublas_type(DType type) {
  return type == DType::f16 ? CUDA_R_16F : type == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F;
}

}  // namespace plume::cuda
