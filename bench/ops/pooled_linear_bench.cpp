#include "engine/ops/pooled_linear.h"

#include "bench/support/slot_bench.h"

namespace plume::bench {
namespace {

const bool pooled_linear_registered = bench_slot<pooled_linear_forward>();

}  // namespace
}  // namespace plume::bench
