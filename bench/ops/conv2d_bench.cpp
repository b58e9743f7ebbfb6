#include "engine/ops/conv2d.h"

#include "bench/support/slot_bench.h"

namespace plume::bench {
namespace {

const bool conv2d_registered = bench_slot<conv2d_forward>() && bench_slot<conv2d_backward_input>() &&
                               bench_slot<conv2d_backward_weight>() && bench_slot<conv2d_backward>();

}  // namespace
}  // namespace plume::bench
