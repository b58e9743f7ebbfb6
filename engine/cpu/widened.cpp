#include "engine/cpu/widened.h"

#include "engine/cpu/parallel.h"

namespace plume::cpu {

Tensor widened(const Tensor& tensor) {
  if (!tensor.defined() || tensor.dtype() == DType::f32) return tensor;
  Tensor wide = Tensor::empty(tensor.shape(), DType::f32, tensor.device(), "workspace");
  float* out = wide.data<float>();
  dispatch_floating(tensor.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* in = tensor.data<T>();
    parallel_for(tensor.size(), kElementGrain, [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) out[i] = float(in[i]);
    });
  });
  return wide;
}

void narrow(const Tensor& from, Tensor& to) {
  const float* in = from.data<float>();
  dispatch_floating(to.dtype(), [&](auto zero) {
    using T = decltype(zero);
    T* out = to.data<T>();
    parallel_for(to.size(), kElementGrain, [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) out[i] = T(in[i]);
    });
  });
}

}  // namespace plume::cpu
