#include "engine/ops/linear.h"

#include "bench/support/slot_bench.h"

namespace plume::bench {
namespace {

double product(const Tensor& rows, int64_t columns) { return 2.0 * double(rows.size()) * double(columns); }

const bool registered =
    bench_slot<linear_forward>({.flops = [](const Tensor& x, const Tensor& w, const Epilogue&,
                                            const Tensor&) { return product(x, w.dim(0)); }}) &&
    bench_slot<linear_backward_input>(
        {.flops = [](const Tensor& dy, const Tensor& w, const Tensor&) { return product(dy, w.dim(1)); }}) &&
    bench_slot<linear_backward_weight>(
        {.flops = [](const Tensor& x, const Tensor& dy, const Tensor&) { return product(x, dy.dim(1)); }});

}  // namespace
}  // namespace plume::bench
