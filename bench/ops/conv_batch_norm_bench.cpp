#include "engine/ops/conv_batch_norm.h"

#include "bench/support/slot_bench.h"

namespace plume::bench {
namespace {

const bool conv_batch_norm_registered =
    bench_slot<conv_batch_norm_forward>() && bench_slot<conv_batch_norm_backward>();

}  // namespace
}  // namespace plume::bench
