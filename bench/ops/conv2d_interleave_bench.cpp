#include "engine/ops/conv2d_interleave.h"

#include "bench/support/slot_bench.h"

namespace plume::bench {
namespace {

const bool conv2d_interleave_registered = bench_slot<conv2d_interleave_forward>();

}  // namespace
}  // namespace plume::bench
