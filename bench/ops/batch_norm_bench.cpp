#include "engine/ops/batch_norm.h"

#include "bench/support/slot_bench.h"

namespace plume {

std::string describe(const BatchNormParams& p) { return name(p.activation); }
std::string describe(const BatchNormBackwardParams& p) {
  return message("{}{}", name(p.activation), p.fixed_statistics ? "_fixed" : "");
}

std::string describe(const SampleDrop& d) { return d.state.defined() ? "dropped" : "kept"; }

namespace bench {
namespace {

// Evaluation without folding, which `evaluate` avoids: the shapes of training.
void derive_eval(BenchOf<batch_norm_forward_eval>& bench, Device) {
  for (const auto& [x, gamma, beta, residual, params, drop, y, mean, inv_std, running_mean, running_var] :
       recorded_calls<batch_norm_forward_train>())
    bench.note({x, gamma, beta, residual, running_mean, running_var, params, y});
}

const bool batch_norm_registered = bench_slot<batch_norm_forward_train>() &&
                                   bench_slot<batch_norm_forward_eval>({.derive = derive_eval}) &&
                                   bench_slot<batch_norm_backward>();

}  // namespace
}  // namespace bench
}  // namespace plume
