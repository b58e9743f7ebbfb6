// A kernel to ask the driver about: whether this build holds code for its GPU. Never launched.
#include "kernels/common/kernel.h"

#if defined(__CUDACC__)
namespace plume::PLUME_KERNELS {
namespace {

__global__ void probe() {}

}  // namespace
}  // namespace plume::PLUME_KERNELS

extern "C" const void* plume_cuda_probe_kernel() {
  return reinterpret_cast<const void*>(&plume::PLUME_KERNELS::probe);
}
#endif
