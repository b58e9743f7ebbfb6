#include "engine/ops/sync_batch_norm.h"

#include "bench/support/slot_bench.h"

namespace plume {

std::string describe(const BatchNormParams& p);

namespace bench {
namespace {

// Of the calls of a training without other ranks; two of them for the merge.
void derive_statistics(BenchOf<sync_batch_norm_statistics>& bench, Device) {
  for (const auto& call : recorded_calls<batch_norm_forward_train>()) {
    const Tensor &x = std::get<0>(call), &gamma = std::get<1>(call);
    bench.note({x, empty({gamma.size(), 3}, gamma)});
  }
}

void derive_merge(BenchOf<sync_batch_norm_merge>& bench, Device) {
  for (const auto& [x, gamma, beta, residual, params, drop, y, mean, inv_std, running_mean, running_var] :
       recorded_calls<batch_norm_forward_train>())
    bench.note({Tensor::zeros({2, gamma.size(), 3}, DType::f32, gamma.device()), params, mean, mean,
                running_var, inv_std, running_mean, running_var});
}

// Counts, means and squares that could be some.
void complete_merge(Context&, Tensor& moments, BatchNormParams&, Tensor&, Tensor&, Tensor&, Tensor&, Tensor&,
                    Tensor&) {
  moments.copy_from(Tensor::from(std::vector<float>(size_t(moments.size()), 64.0f), moments.shape()));
}

void derive_backward_sums(BenchOf<sync_batch_norm_backward_sums>& bench, Device) {
  for (const auto& [x, y, dy, more, gamma, beta, mean, inv_std, params, drop, dx, dresidual, dgamma, dbeta] :
       recorded_calls<batch_norm_backward>())
    bench.note({x, y, dy, gamma, beta, mean, inv_std, params.activation, dgamma, dbeta});
}

void derive_backward_input(BenchOf<sync_batch_norm_backward_input>& bench, Device) {
  for (const auto& [x, y, dy, more, gamma, beta, mean, inv_std, params, drop, dx, dresidual, dgamma, dbeta] :
       recorded_calls<batch_norm_backward>())
    bench.note({x, y, dy, gamma, beta, mean, inv_std, inv_std, empty({2, gamma.size()}, gamma),
                params.activation, dx, dresidual});
}

const bool sync_batch_norm_registered =
    bench_slot<sync_batch_norm_statistics>({.derive = derive_statistics}) &&
    bench_slot<sync_batch_norm_merge>({.complete = complete_merge, .derive = derive_merge}) &&
    bench_slot<sync_batch_norm_backward_sums>({.derive = derive_backward_sums}) &&
    bench_slot<sync_batch_norm_backward_input>({.derive = derive_backward_input});

}  // namespace
}  // namespace bench
}  // namespace plume
