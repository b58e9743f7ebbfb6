#include "engine/ops/stochastic_depth.h"

#include "bench/support/slot_bench.h"
#include "engine/ops/batch_norm.h"

namespace plume::bench {
namespace {

// Networks fuse it into a batch norm: the slot is timed on what it would have to do alone.
const bool stochastic_depth_registered =
    bench_slot<stochastic_depth_forward>({.derive = [](BenchOf<stochastic_depth_forward>& bench, Device) {
      for (const auto& [x, gamma, beta, residual, params, drop, y, mean, inv_std, running_mean, running_var] :
           recorded_calls<batch_norm_forward_train>())
        if (drop.state.defined()) bench.note({x, residual, drop.state, drop.params, y});
    }});

}  // namespace
}  // namespace plume::bench
