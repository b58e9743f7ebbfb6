#include "engine/ops/conv2d_concat.h"

#include "bench/support/slot_bench.h"

namespace plume::bench {
namespace {

const bool conv2d_concat_registered = bench_slot<conv2d_concat_forward>();

}  // namespace
}  // namespace plume::bench
