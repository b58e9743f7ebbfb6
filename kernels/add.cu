// add: y = a + b, one 16-byte vector per thread and step of a grid-stride loop; the last n % width values go
// one by one.
//
// Bytes: reads a and b, writes y (3 n values), one addition each: the bound is memory bandwidth. y may be a
// or b, so no pointer is __restrict__; a thread reads its values before it writes them.
#include "engine/ops/add.h"

#include "kernels/common/grid_stride.h"
#include "kernels/common/vector.h"

namespace plume::PLUME_KERNELS {
namespace {

template <class T>
__global__ void add_forward_vector(const T* a, const T* b, T* y, int64_t n) {
  constexpr int kWidth = kVectorWidth<T>;
  using Vector = Pack<T, kWidth>;
  const int64_t vectors = n / kWidth;
  for (int64_t i = grid_thread(); i < vectors; i += grid_threads()) {
    const Vector left = Vector::load(a + i * kWidth), right = Vector::load(b + i * kWidth);
    Vector sum;
#pragma unroll
    for (int j = 0; j < kWidth; ++j) sum[j] = T(float(left[j]) + float(right[j]));
    sum.store(y + i * kWidth);
  }
  for (int64_t i = vectors * kWidth + grid_thread(); i < n; i += grid_threads())
    y[i] = T(float(a[i]) + float(b[i]));
}

void run_add_forward(Context& context, const Tensor& a, const Tensor& b, Tensor& y) {
  if (a.size() == 0) return;
  dispatch_floating(a.dtype(), [&](auto zero) {
    using T = decltype(zero);
    simt::launch<add_forward_vector<T>>(grid_stride(context, ceil_div(a.size(), kVectorWidth<T>)),
                                        a.data<T>(), b.data<T>(), y.data<T>(), a.size());
  });
}

const bool add_registered = add_forward.add(kThisDevice, {{"vector", always, run_add_forward}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
