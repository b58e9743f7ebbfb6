#include "engine/ops/activation.h"

#include "engine/cpu/parallel.h"
#include "engine/cpu/vector8.h"

namespace plume::cpu {
namespace {

// Always in vectors, since the compiler turns the bounds of an exponential into branches; the last ones too,
// so that no element's rounding depends on how a loop is cut.
template <class T>
Vector8 load_some(const T* values, int64_t count) {
  if constexpr (std::is_same_v<T, float>)
    if (count >= 8) return load8(values);
  float wide[8] = {};
  for (int64_t i = 0; i < std::min<int64_t>(count, 8); ++i) wide[i] = float(values[i]);
  return load8(wide);
}
template <class T>
void store_some(T* values, int64_t count, const Vector8& v) {
  if constexpr (std::is_same_v<T, float>)
    if (count >= 8) return store8(values, v);
  for (int64_t i = 0; i < std::min<int64_t>(count, 8); ++i) values[i] = T(v[i]);
}

void run_forward(Context&, const Tensor& x, Activation activation, Tensor& y) {
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* in = x.data<T>();
    T* out = y.data<T>();
    dispatch_activation(activation, [&](auto kind) {
      parallel_for(x.size(), kElementGrain, [=](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i += 8)
          store_some(out + i, end - i, activate(kind, load_some(in + i, end - i)));
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
        for (int64_t i = begin; i < end; i += 8)
          store_some(out + i, end - i,
                     load_some(gradient + i, end - i) * slope_from_input(kind, load_some(in + i, end - i)));
      });
    });
  });
}

const bool registered = activation_forward.add(Device::cpu, {{"loop", always, run_forward}}) &&
                        activation_backward.add(Device::cpu, {{"loop", always, run_backward}});

}  // namespace
}  // namespace plume::cpu
