#include "bench/support/slot_bench.h"
#include "engine/ops/mbconv.h"

namespace plume {

std::string describe(const SqueezeExcitationParams& p) {
  return message("{}_{}", name(p.inner), name(p.gate));
}

namespace bench {
namespace {

double gate_flops(const Tensor& pooled, const Tensor& w1, const Tensor&, const Tensor&, const Tensor&,
                  const SqueezeExcitationParams&, const Tensor&) {
  return 4.0 * double(pooled.dim(0) * w1.size());
}
const bool registered = bench_slot<squeeze_excitation_forward>() &&
                        bench_slot<squeeze_excitation_backward>() &&
                        bench_slot<squeeze_gate_forward>({.flops = gate_flops});

}  // namespace
}  // namespace bench
}  // namespace plume
