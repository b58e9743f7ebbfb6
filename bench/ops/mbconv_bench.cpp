#include "engine/ops/mbconv.h"

#include "bench/support/slot_bench.h"
#include "engine/ops/depthwise_conv2d.h"

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

double expand_flops(const Tensor& x, const Tensor& w1, const Tensor&, const Tensor& w2, const Tensor&,
                    const ExpandDepthwiseParams&, const Tensor& d, const Tensor&) {
  const int64_t depthwise = d.size() * w2.dim(0) * w2.dim(1);
  return 2.0 * double(conv2d_macs(x.shape(), w1.shape(), {}) + depthwise);
}
double pointwise_flops(const Tensor& x, const Tensor&, const Tensor& w, PackedFilter* const&, const Epilogue&,
                       const Tensor&) {
  return 2.0 * double(conv2d_macs(x.shape(), w.shape(), {}));
}
double fused_flops(const Tensor& x, const Tensor& w1, const Tensor&, const Tensor& w2, const Epilogue&,
                   const FusedMbconvParams& p, const Tensor& y) {
  return 2.0 * double(conv2d_macs(x.shape(), w1.shape(), {p.stride, p.padding}) + y.size() * w2.dim(3));
}

const bool registered = bench_slot<expand_depthwise_forward>({.flops = expand_flops}) &&
                        bench_slot<gated_pointwise_forward>({.flops = pointwise_flops}) &&
                        bench_slot<fused_mbconv_forward>({.flops = fused_flops});

}  // namespace
}  // namespace bench
}  // namespace plume
