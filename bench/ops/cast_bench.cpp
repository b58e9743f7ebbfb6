#include "engine/ops/cast.h"

#include "bench/support/slot_bench.h"

namespace plume::bench {
namespace {

const bool cast_registered = bench_slot<cast_forward>();

}  // namespace
}  // namespace plume::bench
