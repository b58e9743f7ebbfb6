// cast: element-wise through float. A thread moves as many values per step as fill 16 bytes of the wider of
// the two types; the rest of the array goes one by one.
//
// Bytes: reads x, writes y (n values of each type): the bound is memory bandwidth.
#include "engine/ops/cast.h"

#include "kernels/common/grid_stride.h"
#include "kernels/common/vector.h"

namespace plume::PLUME_KERNELS {
namespace {

template <class From, class To>
constexpr int kCastWidth = kVectorWidth<From> < kVectorWidth<To> ? kVectorWidth<From> : kVectorWidth<To>;

template <class From, class To>
__global__ void cast_forward_vector(const From* __restrict__ x, To* __restrict__ y, int64_t n) {
  constexpr int kWidth = kCastWidth<From, To>;
  const int64_t vectors = n / kWidth;
  for (int64_t i = grid_thread(); i < vectors; i += grid_threads()) {
    const auto from = Pack<From, kWidth>::load(x + i * kWidth);
    Pack<To, kWidth> to;
#pragma unroll
    for (int j = 0; j < kWidth; ++j) to[j] = To(float(from[j]));
    to.store(y + i * kWidth);
  }
  for (int64_t i = vectors * kWidth + grid_thread(); i < n; i += grid_threads()) y[i] = To(float(x[i]));
}

void run_cast(Context& context, const Tensor& x, Tensor& y) {
  if (x.size() == 0) return;
  dispatch_floating(x.dtype(), [&](auto from) {
    dispatch_floating(y.dtype(), [&](auto to) {
      using From = decltype(from);
      using To = decltype(to);
      simt::launch<cast_forward_vector<From, To>>(
          grid_stride(context, ceil_div(x.size(), kCastWidth<From, To>)), x.data<From>(), y.data<To>(),
          x.size());
    });
  });
}

const bool cast_registered = cast_forward.add(kThisDevice, {{"vector", always, run_cast}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
