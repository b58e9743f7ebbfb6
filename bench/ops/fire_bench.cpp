#include "engine/ops/fire.h"

#include "bench/support/slot_bench.h"

namespace plume::bench {
namespace {

double flops(const Tensor& x, const Tensor& w1, const Tensor&, const Tensor& w3, const Tensor&,
             PackedFilter* const&, PackedFilter* const&, const Tensor&) {
  return 2.0 *
         double(conv2d_macs(x.shape(), w1.shape(), {}) + conv2d_macs(x.shape(), w3.shape(), {.padding = 1}));
}

const bool registered = bench_slot<fire_expand_forward>({.flops = flops});

}  // namespace
}  // namespace plume::bench
