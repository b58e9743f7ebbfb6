#include "engine/ops/activation.h"

#include "bench/support/slot_bench.h"
#include "engine/ops/batch_norm.h"

namespace plume::bench {
namespace {

// Where networks fuse the activation into a batch norm, the slot is timed on what it would have to do alone.
template <class F>
void for_each_fused_activation(F&& f) {
  for (const auto& [x, gamma, beta, residual, params, drop, y, mean, inv_std, running_mean, running_var] :
       recorded_calls<batch_norm_forward_train>())
    if (params.activation != Activation::identity && params.activation != Activation::relu)
      f(y, params.activation);
}

void derive_forward(BenchOf<activation_forward>& bench, Device) {
  for_each_fused_activation([&](const Tensor& y, Activation kind) { bench.note({y, kind, y}); });
}
void derive_backward(BenchOf<activation_backward>& bench, Device) {
  for_each_fused_activation([&](const Tensor& y, Activation kind) { bench.note({y, y, kind, y}); });
}

const bool activation_registered = bench_slot<activation_forward>({.derive = derive_forward}) &&
                                   bench_slot<activation_backward>({.derive = derive_backward});

}  // namespace
}  // namespace plume::bench
