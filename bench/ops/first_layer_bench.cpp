#include "engine/ops/first_layer.h"

#include "bench/support/slot_bench.h"

namespace plume {

std::string describe(const Conv2dParams& p);
std::string describe(const KnownNorm& norm);
std::string describe(const WindowWinners& winners);

namespace bench {
namespace {

// The winners of random images, where these are pooled.
void complete(Context& context, Tensor&, Conv2dParams&, Tensor& z, WindowWinners& winners, Tensor& dy,
              Tensor&, KnownNorm& norm, Tensor&, Tensor&, Tensor&) {
  if (winners.pool.window == 0) return;
  Tensor y = empty_like(dy), running_mean = norm.mean.clone(), running_var = norm.mean.clone();
  batch_norm_max_pool_forward(context, z, norm.gamma, norm.beta, {.activation = norm.activation},
                              winners.pool, y, winners.values, winners.argmax, norm.mean, norm.inv_std,
                              running_mean, running_var);
}

const bool first_layer_registered = bench_slot<first_layer_backward>({.complete = complete});

}  // namespace
}  // namespace bench
}  // namespace plume
