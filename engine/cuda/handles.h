// Library handles and scratch memory of the cuda device. Handles are made at the first use, since each costs
// tens of milliseconds, and live as long as the process.
#pragma once
#include <cublasLt.h>
#include <cuda_runtime.h>
#include <cudnn_graph.h>

#include <cstddef>

#include "engine/core/context.h"
#include "engine/core/dtype.h"
#include "engine/core/error.h"

namespace plume::cuda {

inline cudaStream_t stream_of(const Context& context) { return static_cast<cudaStream_t>(context.stream()); }

cudnnHandle_t cudnn_handle(const Context& context);  // set to the context's stream
cublasLtHandle_t cublaslt_handle();

// How much scratch memory cuBLASLt may plan with; 32 MiB is what its fastest Hopper kernels want.
inline constexpr size_t kCublasltWorkspace = size_t(32) << 20;

struct OutOfScratch : Error {
  using Error::Error;
};

// Scratch memory for one call. It may be released while the device still works on it: whoever gets the block
// next works on the same stream, behind this call. Inside a recorded graph it stays the graph's.
class Scratch {
 public:
  explicit Scratch(size_t bytes);  // no block for 0 bytes; throws OutOfScratch
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  void* data() const { return data_; }

 private:
  void* data_ = nullptr;
};

cudnnDataType_t cudnn_type(DType type);  // f32, f16, bf16
cudaDataType_t cublas_type(DType type);  // f32, f16, bf16

}  // namespace plume::cuda
