#include "engine/ops/stochastic_depth.h"

#include "engine/cpu/parallel.h"

namespace plume::cpu {
namespace {

void run(Context&, const Tensor& x, const Tensor& residual, const Tensor& state, const DropoutParams& params,
         Tensor& y) {
  if (x.size() == 0) return;
  const int64_t* seed = state.data<int64_t>();
  const int64_t image = x.size() / x.dim(0);
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T *in = x.data<T>(), *shortcut = residual.defined() ? residual.data<T>() : nullptr;
    T* out = y.data<T>();
    parallel_for(x.size(), kElementGrain, [=](int64_t begin, int64_t end) {
      while (begin < end) {
        const float scale = stochastic_depth_scale(seed, params, begin / image);
        const int64_t stop = std::min(end, (begin / image + 1) * image);
        if (shortcut) {
          PLUME_SIMD
          for (int64_t i = begin; i < stop; ++i) out[i] = T(float(in[i]) * scale + float(shortcut[i]));
        } else {
          PLUME_SIMD
          for (int64_t i = begin; i < stop; ++i) out[i] = T(float(in[i]) * scale);
        }
        begin = stop;
      }
    });
  });
}

const bool registered = stochastic_depth_forward.add(Device::cpu, {{"loop", always, run}});

}  // namespace
}  // namespace plume::cpu
