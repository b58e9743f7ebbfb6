#include "engine/ops/mbconv.h"

#include "bench/support/slot_bench.h"
#include "engine/ops/depthwise_pool.h"

namespace plume {

std::string describe(const ExpandDepthwiseParams& p) {
  return message("{}_{}_stride{}_pad{}", name(p.expanded), name(p.out), p.stride, p.padding);
}
std::string describe(const FusedMbconvParams& p) {
  return message("{}_stride{}_pad{}", name(p.expanded), p.stride, p.padding);
}
template <class F>
void for_each_packed(ExpandDepthwiseParams& p, F&& f) {
  f(p.packed);
}
template <class F>
void for_each_packed(FusedMbconvParams& p, F&& f) {
  f(p.packed1);
  f(p.packed2);
}

namespace bench {
namespace {

void add_plane_parts(Tensor&, Tensor&, Conv2dParams&, Epilogue&, Tensor&, Tensor& pooled) {
  add_parts(pooled);
}

const bool mbconv_registered = bench_slot<expand_depthwise_forward>() &&
                               bench_slot<depthwise_pool_forward>({.conclude = add_plane_parts}) &&
                               bench_slot<gated_pointwise_forward>() &&
                               bench_slot<gated_pointwise_backward_weight>() &&
                               bench_slot<fused_mbconv_forward>();

}  // namespace
}  // namespace bench
}  // namespace plume
