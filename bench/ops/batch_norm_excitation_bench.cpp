#include "engine/ops/batch_norm_excitation.h"

#include "bench/support/slot_bench.h"

namespace plume {

// Those of their operations.
std::string describe(const BatchNormParams& p);
std::string describe(const KnownNorm& norm);
std::string describe(const SqueezeExcitationParams& p);
std::string describe(const SqueezeExcitationKept& kept);

namespace bench {
namespace {

void add_pooled_parts(Tensor&, Tensor&, Tensor&, BatchNormParams&, Tensor&, Tensor&, Tensor&, Tensor&,
                      Tensor&, Tensor& pooled) {
  add_parts(pooled);
}

const bool batch_norm_excitation_registered =
    bench_slot<batch_norm_pool_forward>({.conclude = add_pooled_parts}) &&
    bench_slot<batch_norm_excitation_backward>();

}  // namespace
}  // namespace bench
}  // namespace plume
