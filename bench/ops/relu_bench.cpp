#include "engine/ops/relu.h"

#include "bench/support/slot_bench.h"
#include "engine/ops/batch_norm.h"

namespace plume::bench {
namespace {

// Where networks fuse relu into a batch norm, the slot is timed on what it would have to do alone.
template <class F>
void for_each_fused_relu(F&& f) {
  for (const auto& [x, gamma, beta, residual, params, drop, y, mean, inv_std, running_mean, running_var] :
       recorded_calls<batch_norm_forward_train>())
    if (params.activation == Activation::relu) f(y);
}

const bool relu_registered =
    bench_slot<relu_forward>({.derive =
                                  [](BenchOf<relu_forward>& bench, Device) {
                                    for_each_fused_relu([&](const Tensor& y) { bench.note({y, y}); });
                                  }}) &&
    bench_slot<relu_backward>({.derive = [](BenchOf<relu_backward>& bench, Device) {
      for_each_fused_relu([&](const Tensor& y) { bench.note({y, y, y}); });
    }});

}  // namespace
}  // namespace plume::bench
