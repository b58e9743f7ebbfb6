#include "engine/ops/fire.h"

#include "bench/support/slot_bench.h"

namespace plume::bench {
namespace {

const bool fire_registered = bench_slot<fire_expand_forward>();

}  // namespace
}  // namespace plume::bench
