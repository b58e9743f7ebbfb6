#include "engine/ops/dropout.h"

#include "bench/support/slot_bench.h"

namespace plume::bench {
namespace {

const bool dropout_registered = bench_slot<dropout_forward>();

}  // namespace
}  // namespace plume::bench
