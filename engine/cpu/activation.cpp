#include "engine/ops/activation.h"

#include "engine/cpu/parallel.h"

namespace plume::cpu {
namespace {

void run_forward(Context&, const Tensor& x, Activation activation, Tensor& y) {
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* in = x.data<T>();
    T* out = y.data<T>();
    dispatch_activation(activation, [&](auto kind) {
      parallel_for(x.size(), kElementGrain, [=](int64_t begin, int64_t end) {
        PLUME_SIMD
        for (int64_t i = begin; i < end; ++i) out[i] = T(activate(kind, float(in[i])));
      });
    });
  });
}

void run_backward(Context&, const Tensor& x, const Tensor& dy, Activation activation, Tensor& dx) {
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T *in = x.data<T>(), *gradient = dy.data<T>();
    T* out = dx.data<T>();
    dispatch_activation(activation, [&](auto kind) {
      parallel_for(x.size(), kElementGrain, [=](int64_t begin, int64_t end) {
        PLUME_SIMD
        for (int64_t i = begin; i < end; ++i)
          out[i] = T(float(gradient[i]) * slope_from_input(kind, float(in[i])));
      });
    });
  });
}

const bool registered = activation_forward.add(Device::cpu, {{"loop", always, run_forward}}) &&
                        activation_backward.add(Device::cpu, {{"loop", always, run_backward}});

}  // namespace
}  // namespace plume::cpu
