#include "engine/ops/adaptive_avg_pool2d.h"

#include "bench/support/slot_bench.h"
#include "engine/ops/global_avg_pool.h"

namespace plume::bench {
namespace {

// The networks pool to one pixel only, by global_avg_pool; this slot is timed on the same images, to 2x2.
template <class F>
void for_each_pooled(F&& f) {
  for (const auto& [x, y] : recorded_calls<global_avg_pool_forward>())
    if (x.dim(1) > 1) f(x, outline(Tensor::empty({x.dim(0), 2, 2, x.dim(3)}, x.dtype(), x.device())));
}

void derive_forward(BenchOf<adaptive_avg_pool2d_forward>& bench, Device) {
  for_each_pooled([&](const Tensor& x, const Tensor& y) { bench.note({x, y}); });
}
void derive_backward(BenchOf<adaptive_avg_pool2d_backward>& bench, Device) {
  for_each_pooled([&](const Tensor& x, const Tensor& y) { bench.note({y, x}); });
}

const bool adaptive_avg_pool2d_registered =
    bench_slot<adaptive_avg_pool2d_forward>({.derive = derive_forward}) &&
    bench_slot<adaptive_avg_pool2d_backward>({.derive = derive_backward});

}  // namespace
}  // namespace plume::bench
