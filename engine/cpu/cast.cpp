#include "engine/ops/cast.h"

#include "engine/cpu/parallel.h"

namespace plume::cpu {
namespace {

void run(Context&, const Tensor& x, Tensor& y) {
  dispatch_floating(x.dtype(), [&](auto from) {
    dispatch_floating(y.dtype(), [&](auto to) {
      using From = decltype(from);
      using To = decltype(to);
      const From* in = x.data<From>();
      To* out = y.data<To>();
      parallel_for(x.size(), kElementGrain, [=](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) out[i] = To(float(in[i]));
      });
    });
  });
}

const bool registered = cast_forward.add(Device::cpu, {{"loop", always, run}});

}  // namespace
}  // namespace plume::cpu
