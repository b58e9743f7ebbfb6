#include "engine/ops/sum_rows.h"

#include "bench/support/slot_bench.h"

namespace plume::bench {
namespace {

const bool sum_rows_registered = bench_slot<sum_rows_forward>();

}  // namespace
}  // namespace plume::bench
