// relu: element-wise, one 16-byte vector per thread and step of a grid-stride loop.
//
// Bytes: forward reads x and writes y (2 n), backward reads y, dy and writes dx (3 n); no arithmetic to speak
// of, so the bound is memory bandwidth.
#include "engine/ops/relu.h"

#include "kernels/common/kernel.h"

namespace plume::PLUME_KERNELS {
namespace {

template <class T>
__global__ void relu_forward_vector(const T* __restrict__ x, T* __restrict__ y, int64_t n) {
  const int64_t stride = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += stride) {
    const float v = float(x[i]);
    y[i] = T(v > 0.0f ? v : 0.0f);
  }
}

void run_forward(Context& context, const Tensor& x, Tensor& y) {
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const unsigned blocks = unsigned(std::min<int64_t>(ceil_div(x.size(), 256), 1024));
    if (x.size() == 0) return;
    simt::launch<relu_forward_vector<T>>({dim3(blocks), dim3(256), 0, stream_of(context)}, x.data<T>(),
                                         y.data<T>(), x.size());
  });
}

const bool registered = relu_forward.add(kThisDevice, {{"vector", always, run_forward}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
