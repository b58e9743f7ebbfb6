#include "engine/ops/global_avg_pool.h"

#include "bench/support/slot_bench.h"

namespace plume::bench {
namespace {

const bool global_avg_pool_registered =
    bench_slot<global_avg_pool_forward>() && bench_slot<global_avg_pool_backward>();

}  // namespace
}  // namespace plume::bench
