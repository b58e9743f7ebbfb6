#include "engine/ops/add.h"

#include "bench/support/slot_bench.h"

namespace plume::bench {
namespace {

const bool add_registered = bench_slot<add_forward>();

}  // namespace
}  // namespace plume::bench
