#include "engine/ops/interleave.h"

#include "bench/support/slot_bench.h"

namespace plume::bench {
namespace {

const bool interleave_registered = bench_slot<interleave_forward>() && bench_slot<interleave_backward>();

}  // namespace
}  // namespace plume::bench
