#include "engine/ops/relu_bias.h"

#include "engine/cpu/parallel.h"

namespace plume::cpu {
namespace {

// dz of the channels from `first` on, and in the same walk its sums.
template <class T, bool kMore>
void mask_and_sum(const T* y, const T* dy, const T* more, int64_t channels, int64_t first, Tensor& dz,
                  Tensor& dbias) {
  const int64_t own = dz.dim(-1);
  T* out = dz.data<T>();
  const auto sums = rows_sum<1>(dz.size() / own, own, [=](int64_t begin, int64_t end, float* partial) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t from = row * channels + first;
      T* to = out + row * own;
      PLUME_SIMD
      for (int64_t c = 0; c < own; ++c) {
        float gradient = float(dy[from + c]);
        if constexpr (kMore) gradient += float(more[from + c]);
        gradient = float(y[from + c]) <= 0.0f ? 0.0f : gradient;
        partial[c] += gradient;
        to[c] = T(gradient);
      }
    }
  });
  for (int64_t c = 0; c < own; ++c) dbias.data<float>()[c] = float(sums[size_t(c)]);
}

void run(Context&, const Tensor& y, const Tensor& dy, const Tensor& dy_more, Tensor& dz, Tensor& dbias,
         Tensor& dz2, Tensor& dbias2) {
  const auto part = [&](int64_t first, Tensor& to, Tensor& bias) {
    if (to.dim(-1) == 0) return;
    dispatch_floating(y.dtype(), [&](auto zero) {
      using T = decltype(zero);
      if (dy_more.defined())
        mask_and_sum<T, true>(y.data<T>(), dy.data<T>(), dy_more.data<T>(), y.dim(-1), first, to, bias);
      else
        mask_and_sum<T, false>(y.data<T>(), dy.data<T>(), nullptr, y.dim(-1), first, to, bias);
    });
  };
  part(0, dz, dbias);
  if (dz2.defined()) part(dz.dim(-1), dz2, dbias2);
}

const bool registered = relu_bias_backward.add(Device::cpu, {{"loop", always, run}});

}  // namespace
}  // namespace plume::cpu
