#include "engine/ops/dropout.h"

#include "engine/cpu/parallel.h"

namespace plume::cpu {
namespace {

// Groups of four numbers that are drawn at once, in vectors.
constexpr int kGroups = 8;

void draw(const int64_t* seed, uint32_t call, int64_t group, float (&u)[4 * kGroups]) {
  const int64_t state[] = {seed[0], seed[1]};
  PLUME_SIMD
  for (int i = 0; i < kGroups; ++i) {
    const DropoutNumbers numbers = dropout_numbers(state, call, uint64_t(group + i));
    for (int j = 0; j < 4; ++j) u[4 * i + j] = numbers.v[j];
  }
}

void run(Context&, const Tensor& x, const Tensor& state, const DropoutParams& params, Tensor& y) {
  const int64_t* seed = state.data<int64_t>();
  const float p = params.p, scale = 1.0f / (1.0f - p);
  constexpr int64_t kStep = 4 * kGroups;
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* in = x.data<T>();
    T* out = y.data<T>();
    const int64_t size = x.size();
    parallel_for((size + kStep - 1) / kStep, kElementGrain / 4 / kStep, [=](int64_t begin, int64_t end) {
      float u[kStep];
      for (int64_t step = begin; step < end; ++step) {
        draw(seed, params.call, step * kGroups, u);
        const int64_t first = step * kStep, count = std::min(kStep, size - first);
        PLUME_SIMD
        for (int64_t i = 0; i < count; ++i)
          out[first + i] = T(u[i] < p ? 0.0f : float(in[first + i]) * scale);
      }
    });
  });
}

const bool registered = dropout_forward.add(Device::cpu, {{"loop", always, run}});

}  // namespace
}  // namespace plume::cpu
