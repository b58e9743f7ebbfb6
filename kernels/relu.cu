// relu: element-wise, one 16-byte vector per thread and step of a grid-stride loop; the last n % width values
// go one by one.
//
// Bytes: forward reads x and writes y (2 n values), backward reads y and dy and writes dx (3 n). One
// comparison per value, so the bound is memory bandwidth.
#include "engine/ops/relu.h"

#include "engine/math/activation.h"
#include "kernels/common/grid_stride.h"
#include "kernels/common/vector.h"

namespace plume::PLUME_KERNELS {
namespace {

template <class T>
__global__ void relu_forward_vector(const T* __restrict__ x, T* __restrict__ y, int64_t n) {
  constexpr int kWidth = kVectorWidth<T>;
  using Vector = Pack<T, kWidth>;
  const int64_t vectors = n / kWidth;
  for (int64_t i = grid_thread(); i < vectors; i += grid_threads()) {
    Vector v = Vector::load(x + i * kWidth);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) v[j] = T(activate(Activation::relu, float(v[j])));
    v.store(y + i * kWidth);
  }
  for (int64_t i = vectors * kWidth + grid_thread(); i < n; i += grid_threads())
    y[i] = T(activate(Activation::relu, float(x[i])));
}

template <class T>
__global__ void relu_backward_vector(const T* __restrict__ y, const T* __restrict__ dy, T* __restrict__ dx,
                                     int64_t n) {
  constexpr int kWidth = kVectorWidth<T>;
  using Vector = Pack<T, kWidth>;
  const int64_t vectors = n / kWidth;
  const auto gradient = [](T output, T dz) {
    return slope_from_output(Activation::relu, float(output)) == 0.0f ? T(0.0f) : dz;
  };
  for (int64_t i = grid_thread(); i < vectors; i += grid_threads()) {
    const Vector output = Vector::load(y + i * kWidth);
    Vector g = Vector::load(dy + i * kWidth);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) g[j] = gradient(output[j], g[j]);
    g.store(dx + i * kWidth);
  }
  for (int64_t i = vectors * kWidth + grid_thread(); i < n; i += grid_threads())
    dx[i] = gradient(y[i], dy[i]);
}

void run_relu_forward(Context& context, const Tensor& x, Tensor& y) {
  if (x.size() == 0) return;
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    simt::launch<relu_forward_vector<T>>(grid_stride(context, ceil_div(x.size(), kVectorWidth<T>)),
                                         x.data<T>(), y.data<T>(), x.size());
  });
}

void run_relu_backward(Context& context, const Tensor& y, const Tensor& dy, Tensor& dx) {
  if (dy.size() == 0) return;
  dispatch_floating(dy.dtype(), [&](auto zero) {
    using T = decltype(zero);
    simt::launch<relu_backward_vector<T>>(grid_stride(context, ceil_div(dy.size(), kVectorWidth<T>)),
                                          y.data<T>(), dy.data<T>(), dx.data<T>(), dy.size());
  });
}

const bool relu_registered = relu_forward.add(kThisDevice, {{"vector", always, run_relu_forward}}) &&
                             relu_backward.add(kThisDevice, {{"vector", always, run_relu_backward}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
