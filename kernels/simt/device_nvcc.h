// The GPU side of simt.h: names that let one source compile for both processors.
#pragma once
#include <cuda_runtime.h>

#include <cstddef>
#include <string>
#include <type_traits>

#include "engine/core/error.h"
#include "kernels/simt/kernel_name.h"

#define SMEM(name, ...) __shared__ std::type_identity_t<__VA_ARGS__> name

namespace simt {

using stream_t = cudaStream_t;

struct Launch {
  dim3 grid, block;
  size_t smem = 0;  // bytes of dynamic shared memory
  stream_t stream = nullptr;
};

// The block's dynamic shared memory. All types share it: it begins at the same address for each.
template <class T>
__device__ __forceinline__ T* dyn_smem() {
  extern __shared__ __align__(128) unsigned char simt_dynamic_shared_memory[];
  return reinterpret_cast<T*>(simt_dynamic_shared_memory);
}

// Of the current device.
inline int multiprocessors() {
  int device = 0, count = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device);
  return count > 0 ? count : 1;
}

// That a block may ask for, of the current device.
inline int most_shared_bytes() {
  int device = 0, bytes = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  return bytes;
}

// See async_copy.h for these three.
template <int kBytes, bool kCached = kBytes != 16>
__device__ __forceinline__ void async_copy(void* shared, const void* global, unsigned valid = kBytes) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
  static_assert(kCached || kBytes == 16);
  const auto to = unsigned(__cvta_generic_to_shared(shared));
  if constexpr (kCached)
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(global), "n"(kBytes),
                 "r"(valid)
                 : "memory");
  else
    asm volatile("cp.async.cg.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(global), "n"(kBytes),
                 "r"(valid)
                 : "memory");
}
__device__ __forceinline__ void async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kNewest>
__device__ __forceinline__ void async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kNewest) : "memory");
}

template <auto kKernel, class... Args>
void launch(const Launch& config, Args... args) {
  // Beyond 48 KiB a kernel must ask first.
  cudaError_t error = cudaSuccess;
  if (config.smem > 48u * 1024) {
    error = cudaFuncSetAttribute(reinterpret_cast<const void*>(kKernel),
                                 cudaFuncAttributeMaxDynamicSharedMemorySize, int(config.smem));
  }
  if (error == cudaSuccess) {
    kKernel<<<config.grid, config.block, config.smem, config.stream>>>(args...);
    error = cudaPeekAtLastError();
  }
  if (error != cudaSuccess) {
    cudaGetLastError();  // a refused launch must not be blamed on the next one
    const dim3 g = config.grid, b = config.block;
    plume::fail(plume::ErrorKind::resource,
                "{}: launch of grid ({},{},{}), block ({},{},{}), {} bytes of shared memory: {}",
                std::string(kernel_name(__PRETTY_FUNCTION__)), g.x, g.y, g.z, b.x, b.y, b.z, config.smem,
                cudaGetErrorString(error));
  }
}

}  // namespace simt
