// Status checks: a call that fails becomes a one-line resource error with the call's name and the reason.
//
//   PLUME_CUDA(cudaMemcpyAsync, to, from, bytes, cudaMemcpyDefault, stream);
#pragma once
#include <cublasLt.h>
#include <cuda_runtime.h>
#include <cudnn_graph.h>

#include <string>

#include "engine/core/error.h"

namespace plume::cuda {

inline void check(const char* call, cudaError_t status) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // reported here, so not to be reported again by the next launch
  fail(ErrorKind::resource, "{}: {} ({})", call, cudaGetErrorString(status), cudaGetErrorName(status));
}

std::string status_text(cudnnStatus_t status);  // its name, and cuDNN's own last message
void check(const char* call, cudnnStatus_t status);

inline void check(const char* call, cublasStatus_t status) {
  if (status != CUBLAS_STATUS_SUCCESS)
    fail(ErrorKind::resource, "{}: {}", call, cublasLtGetStatusName(status));
}

}  // namespace plume::cuda

#define PLUME_CUDA(call, ...) ::plume::cuda::check(#call, call(__VA_ARGS__))
