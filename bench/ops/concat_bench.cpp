#include "engine/ops/concat.h"

#include "bench/support/slot_bench.h"

namespace plume::bench {
namespace {

const bool concat_registered = bench_slot<concat_forward>() && bench_slot<concat_backward>();

}  // namespace
}  // namespace plume::bench
