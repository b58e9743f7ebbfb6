// activation: element-wise, one 16-byte vector per thread and step of a grid-stride loop; the last n % width
// values go one by one. The kind is the same for all threads, so that choosing it costs one uniform branch.
//
// Bytes: forward 2 n values, backward 3 n (x, dy, dx). At most one exponential and one division per value:
// the bound is memory bandwidth.
#include "engine/ops/activation.h"

#include "kernels/common/grid_stride.h"
#include "kernels/common/vector.h"

namespace plume::PLUME_KERNELS {
namespace {

template <class T>
__global__ void activation_forward_vector(const T* __restrict__ x, Activation kind, T* __restrict__ y,
                                          int64_t n) {
  constexpr int kWidth = kVectorWidth<T>;
  using Vector = Pack<T, kWidth>;
  const int64_t vectors = n / kWidth;
  for (int64_t i = grid_thread(); i < vectors; i += grid_threads()) {
    Vector v = Vector::load(x + i * kWidth);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) v[j] = T(activate(kind, float(v[j])));
    v.store(y + i * kWidth);
  }
  for (int64_t i = vectors * kWidth + grid_thread(); i < n; i += grid_threads())
    y[i] = T(activate(kind, float(x[i])));
}

template <class T>
__global__ void activation_backward_vector(const T* __restrict__ x, const T* __restrict__ dy, Activation kind,
                                           T* __restrict__ dx, int64_t n) {
  constexpr int kWidth = kVectorWidth<T>;
  using Vector = Pack<T, kWidth>;
  const int64_t vectors = n / kWidth;
  for (int64_t i = grid_thread(); i < vectors; i += grid_threads()) {
    const Vector input = Vector::load(x + i * kWidth);
    Vector g = Vector::load(dy + i * kWidth);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) g[j] = T(float(g[j]) * slope_from_input(kind, float(input[j])));
    g.store(dx + i * kWidth);
  }
  for (int64_t i = vectors * kWidth + grid_thread(); i < n; i += grid_threads())
    dx[i] = T(float(dy[i]) * slope_from_input(kind, float(x[i])));
}

void run_activation_forward(Context& context, const Tensor& x, Activation kind, Tensor& y) {
  if (x.size() == 0) return;
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    simt::launch<activation_forward_vector<T>>(grid_stride(context, ceil_div(x.size(), kVectorWidth<T>)),
                                               x.data<T>(), kind, y.data<T>(), x.size());
  });
}

void run_activation_backward(Context& context, const Tensor& x, const Tensor& dy, Activation kind,
                             Tensor& dx) {
  if (x.size() == 0) return;
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    simt::launch<activation_backward_vector<T>>(grid_stride(context, ceil_div(x.size(), kVectorWidth<T>)),
                                                x.data<T>(), dy.data<T>(), kind, dx.data<T>(), x.size());
  });
}

const bool activation_registered =
    activation_forward.add(kThisDevice, {{"vector", always, run_activation_forward}}) &&
    activation_backward.add(kThisDevice, {{"vector", always, run_activation_backward}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
