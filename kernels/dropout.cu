// dropout: four neighbouring elements per thread and step of a grid-stride loop, since the generator makes
// four numbers at once. The same launch serves the gradient: the mask is computed again, which costs less
// than to store and load it.
//
// Bytes: reads x, writes y. About 100 integer operations of Philox per four elements: close to the memory
// bound.
#include "engine/ops/dropout.h"

#include "kernels/common/grid_stride.h"
#include "kernels/common/vector.h"

namespace plume::PLUME_KERNELS {
namespace {

template <class T>
__global__ void dropout_forward_vector(const T* __restrict__ x, const int64_t* __restrict__ state,
                                       DropoutParams params, T* __restrict__ y, int64_t n) {
  using Vector = Pack<T, 4>;
  const float scale = 1.0f / (1.0f - params.p);
  for (int64_t i = grid_thread(); 4 * i < n; i += grid_threads()) {
    const DropoutNumbers u = dropout_numbers(state, params.call, uint64_t(i));
    if (4 * i + 4 <= n) {
      Vector v = Vector::load(x + 4 * i);
#pragma unroll
      for (int j = 0; j < 4; ++j) v[j] = u.v[j] < params.p ? T(0.0f) : T(float(v[j]) * scale);
      v.store(y + 4 * i);
    } else {
#pragma unroll
      for (int j = 0; j < 3; ++j)
        if (4 * i + j < n) y[4 * i + j] = u.v[j] < params.p ? T(0.0f) : T(float(x[4 * i + j]) * scale);
    }
  }
}

void run(Context& context, const Tensor& x, const Tensor& state, const DropoutParams& params, Tensor& y) {
  if (x.size() == 0) return;
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    simt::launch<dropout_forward_vector<T>>(grid_stride(context, ceil_div(x.size(), 4)), x.data<T>(),
                                            state.data<int64_t>(), params, y.data<T>(), x.size());
  });
}

const bool dropout_registered = dropout_forward.add(kThisDevice, {{"vector", always, run}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
