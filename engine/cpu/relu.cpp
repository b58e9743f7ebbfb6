#include "engine/ops/relu.h"

#include "engine/cpu/parallel.h"

namespace plume::cpu {
namespace {

void run_forward(Context&, const Tensor& x, Tensor& y) {
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* in = x.data<T>();
    T* out = y.data<T>();
    parallel_for(x.size(), kElementGrain, [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) out[i] = float(in[i]) <= 0.0f ? T(0.0f) : in[i];
    });
  });
}

void run_backward(Context&, const Tensor& y, const Tensor& dy, Tensor& dx) {
  dispatch_floating(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T *value = y.data<T>(), *gradient = dy.data<T>();
    T* out = dx.data<T>();
    parallel_for(y.size(), kElementGrain, [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) out[i] = float(value[i]) <= 0.0f ? T(0.0f) : gradient[i];
    });
  });
}

const bool registered = relu_forward.add(Device::cpu, {{"loop", always, run_forward}}) &&
                        relu_backward.add(Device::cpu, {{"loop", always, run_backward}});

}  // namespace
}  // namespace plume::cpu
