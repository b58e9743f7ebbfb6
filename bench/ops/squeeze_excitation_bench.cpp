#include "bench/support/slot_bench.h"
#include "engine/ops/mbconv.h"

namespace plume {

std::string describe(const SqueezeExcitationParams& p) {
  return message("{}_{}", name(p.inner), name(p.gate));
}
std::string describe(const SqueezeExcitationKept& kept) { return kept.pooled.defined() ? "kept" : "-"; }

namespace bench {
namespace {

const bool squeeze_excitation_registered = bench_slot<squeeze_excitation_forward>() &&
                                           bench_slot<squeeze_excitation_backward>() &&
                                           bench_slot<squeeze_gate_forward>();

}  // namespace
}  // namespace bench
}  // namespace plume
