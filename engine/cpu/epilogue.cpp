#include "engine/ops/epilogue.h"

#include "engine/cpu/parallel.h"

namespace plume::cpu {
namespace {

void run(Context&, const Tensor& sums, const Epilogue& epilogue, Tensor& y) {
  if (y.size() == 0) return;
  dispatch_floating(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const EpilogueView<T> finish(epilogue);
    const float* in = sums.data<float>();
    T* out = y.data<T>();
    const int64_t channels = y.dim(-1);
    parallel_for(y.size(), kElementGrain, [=](int64_t begin, int64_t end) {
      int channel = int(begin % channels);
      for (int64_t i = begin; i < end; ++i) {
        out[i] = T(finish(in[i], channel, i));
        if (++channel == channels) channel = 0;
      }
    });
  });
}

const bool registered = epilogue_apply.add(Device::cpu, {{"loop", always, run}});

}  // namespace
}  // namespace plume::cpu
