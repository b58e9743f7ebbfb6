#include "engine/ops/stochastic_depth.h"

#include "bench/support/slot_bench.h"

namespace plume::bench {
namespace {

const bool stochastic_depth_registered = bench_slot<stochastic_depth_forward>();

}  // namespace
}  // namespace plume::bench
