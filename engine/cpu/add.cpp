#include "engine/ops/add.h"

#include "engine/cpu/parallel.h"

namespace plume::cpu {
namespace {

void run(Context&, const Tensor& a, const Tensor& b, Tensor& y) {
  dispatch_floating(a.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T *left = a.data<T>(), *right = b.data<T>();
    T* out = y.data<T>();
    parallel_for(a.size(), kElementGrain, [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) out[i] = T(float(left[i]) + float(right[i]));
    });
  });
}

const bool registered = add_forward.add(Device::cpu, {{"loop", always, run}});

}  // namespace
}  // namespace plume::cpu
