#include "engine/ops/dropout.h"

#include "engine/cpu/parallel.h"

namespace plume::cpu {
namespace {

void run(Context&, const Tensor& x, const Tensor& state, const DropoutParams& params, Tensor& y) {
  const int64_t* seed = state.data<int64_t>();
  const float scale = 1.0f / (1.0f - params.p);
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* in = x.data<T>();
    T* out = y.data<T>();
    const int64_t size = x.size();
    parallel_for((size + 3) / 4, kElementGrain / 16, [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const DropoutNumbers u = dropout_numbers(seed, params.call, uint64_t(i));
        for (int64_t j = 4 * i; j < std::min(4 * i + 4, size); ++j)
          out[j] = u.v[j % 4] < params.p ? T(0.0f) : T(float(in[j]) * scale);
      }
    });
  });
}

const bool registered = dropout_forward.add(Device::cpu, {{"loop", always, run}});

}  // namespace
}  // namespace plume::cpu
