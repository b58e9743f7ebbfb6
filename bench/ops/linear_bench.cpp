#include "engine/ops/linear.h"

#include "bench/support/slot_bench.h"

namespace plume::bench {
namespace {

const bool linear_registered = bench_slot<linear_forward>() && bench_slot<linear_backward_input>() &&
                               bench_slot<linear_backward_weight>();

}  // namespace
}  // namespace plume::bench
